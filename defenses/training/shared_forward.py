"""A forward-mode pass that does not repeat the forward pass before it.

Nearly all of a network's work is in its convolutions and matrices. Those of the same network on
the same images give the same outputs again, so that only their tangents are left to compute:
``d(W x + b) = dW x + db + W dx``, two products instead of three.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional
from torch.overrides import TorchFunctionMode

__all__ = ["Remembering", "Replaying"]

Product = Callable[..., Tensor]

PRODUCTS: tuple[Product, ...] = (functional.conv2d, functional.linear)


class Remembering(TorchFunctionMode):
    """Keeps what every convolution and matrix gives in a forward pass.

    Attributes:
        outputs: of those, in the order in which they were computed, without a graph.
    """

    def __init__(self) -> None:
        super().__init__()
        self.outputs: list[Tensor] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in PRODUCTS:
            self.outputs.append(result.detach())
        return result


class Replaying(TorchFunctionMode):
    """Computes the tangents of a forward-mode pass only, where the rest is known.

    Args:
        outputs: what ``Remembering`` kept of the same pass, with the same parameters and images.
    """

    def __init__(self, outputs: Iterable[Tensor]) -> None:
        super().__init__()
        self._outputs = iter(outputs)

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in PRODUCTS:
            return _moved(func, next(self._outputs), *args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _moved(
    product: Product,
    output: Tensor,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *rest: Any,
    **options: Any,
) -> Tensor:
    """``product(input, weight, bias)`` with its tangent, given its value ``output``."""
    at, moving = _parts(input)
    matrix, turning = _parts(weight)
    shift = None if bias is None else _parts(bias)[1]
    tangent: Tensor | None = None
    if turning is not None or shift is not None:
        turning = torch.zeros_like(matrix) if turning is None else turning
        tangent = product(at, turning, shift, *rest, **options)
    if moving is not None:
        carried = product(moving, matrix, None, *rest, **options)
        tangent = carried if tangent is None else tangent.add_(carried)
    if tangent is None:
        return output
    dual: Tensor = forward_ad.make_dual(output, tangent)  # type: ignore[no-untyped-call]
    return dual


def _parts(tensor: Tensor) -> tuple[Tensor, Tensor | None]:
    primal, tangent = forward_ad.unpack_dual(tensor)  # type: ignore[no-untyped-call]
    return primal, tangent

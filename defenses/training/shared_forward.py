"""A forward-mode pass that does not repeat the forward pass before it.

Nearly all of a network's work is in its convolutions and matrices, and in finding the maxima that
it pools. Those of the same network on the same images come out the same again, so that only their
tangents are left to compute: ``d(W x + b) = dW x + db + W dx``, two products instead of three, and
of a maximum the tangent of what it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional
from torch.overrides import TorchFunctionMode

__all__ = ["Kept", "Remembering", "Replaying"]

Product = Callable[..., Tensor]

PRODUCTS: tuple[Product, ...] = (functional.conv2d, functional.linear)

MAXIMA: tuple[Product, ...] = (functional.max_pool2d,)

Kept = tuple[Tensor, ...]
"""What an operation gave: its output, and of maxima where they were found."""


class Remembering(TorchFunctionMode):
    """Keeps what every convolution, matrix and two-dimensional max-pooling gives in a forward pass.

    Attributes:
        kept: of those, in the order in which they were computed, without a graph.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Kept] = []
        self._versions: list[int] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options = kwargs or {}
        if func in MAXIMA and not options.get("return_indices", False):
            output, places = func(*args, **{**options, "return_indices": True})
            self._keep(output.detach(), places)
            return output
        result = func(*args, **options)
        if func in PRODUCTS:
            self._keep(result.detach())
        return result

    @property
    def intact(self) -> bool:
        """Whether what was kept still is what the operations gave.

        It is not where the network changed one in place (``out += shortcut``): then it cannot be
        replayed.
        """
        found = (kept[0]._version for kept in self.kept)
        return all(now == then for now, then in zip(found, self._versions, strict=True))

    def _keep(self, *kept: Tensor) -> None:
        self.kept.append(kept)
        self._versions.append(kept[0]._version)  # shared with the tensor that the network holds


class Replaying(TorchFunctionMode):
    """Computes the tangents of a forward-mode pass only, where the rest is known.

    Args:
        kept: what ``Remembering`` kept of the same pass, with the same parameters and images.
    """

    def __init__(self, kept: Iterable[Kept]) -> None:
        super().__init__()
        self._kept = iter(kept)

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options = kwargs or {}
        if func in MAXIMA and not options.get("return_indices", False):
            return _picked(*next(self._kept), *args, **options)
        if func in PRODUCTS:
            return _moved(func, *next(self._kept), *args, **options)
        return func(*args, **options)


def _picked(output: Tensor, places: Tensor, input: Tensor, *_: Any, **__: Any) -> Tensor:
    """Max-pooling with its tangent, given its value and where in each map that was found."""
    moving = _parts(input)[1]
    if moving is None:
        return output
    tangent = moving.flatten(-2).gather(-1, places.flatten(-2)).view(places.shape)
    dual: Tensor = forward_ad.make_dual(output, tangent)  # type: ignore[no-untyped-call]
    return dual


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

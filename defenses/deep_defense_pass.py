"""A forward pass of the victim in which chosen layers say something else, per query.

The network is not touched, and nothing is hung on it: its layers are recognised by the weight that
they call ``linear`` or ``conv2d`` with. What does not depend on the change (everything below the
lowest chosen layer) is computed in the first pass over a batch and remembered for the later ones.
Where maps are made too, the place they are made at is shown, as something to differentiate by.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from models.explain import GradientInterpreter, Tap

__all__ = ["Change", "ChangedNetwork", "Met", "Pass", "Passed"]


@dataclass(frozen=True, slots=True)
class Met:
    """A chosen layer as a forward pass meets it; a convolution is a dense layer at P positions.

    Attributes:
        name: of its weight.
        moving: whether what it sees depends on the change, or a map is made of what it sees.
        columns: what it sees, ``(B, n, P)``; computed when it is called.
        shape: of what it says, ``(B, out, P)``.
    """

    name: str
    moving: bool
    columns: Callable[[], Tensor]
    shape: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Passed:
    """What a chosen layer said.

    Attributes:
        output: as the network passed it on, the change included: differentiate by this.
        positions: brings a tensor of that shape to ``(B, out, P)``.
    """

    output: Tensor
    positions: Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass.

    Attributes:
        logits: ``(B, K)``.
        passed: what the chosen layers said, in their order.
        values: what maps are made of, ``(B, N, h, w)``: differentiate by this; None without maps.
    """

    logits: Tensor
    passed: dict[str, Passed]
    values: Tensor | None


Change = Callable[[Met], Tensor]
"""What to add to the output of a layer, ``(B, out, P)``."""


class ChangedNetwork:
    """A network over one batch of images, called again and again with changes to some layers.

    Args:
        network: maps images to logits; row by row, in evaluation mode.
        weights: its parameters and buffers by name, of the type of ``images``.
        chosen: names of the weights of the layers to change: of ``nn.Linear`` and ``nn.Conv2d``.
        images: ``(B, C, H, W)``.
        interpreter: of the network, where maps are made; it says where.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        weights: Mapping[str, Tensor],
        chosen: Collection[str],
        images: Tensor,
        interpreter: GradientInterpreter | None = None,
    ) -> None:
        self._network = network
        self._weights = dict(weights)
        self._names = {id(self._weights[name]): name for name in chosen}
        self._images = images
        self._interpreter = interpreter
        self._memory: Memory = {}

    def __call__(self, change: Change) -> Pass:
        """What the network says under ``change``."""
        place = None if self._interpreter is None else self._interpreter.place
        images, values = self._images, None
        if self._interpreter is not None and place is None:
            images = values = images.detach().requires_grad_()
        with _Interception(self._names, change, self._memory) as layers:
            if place is None:
                logits = self._run(images)
            else:
                seen: list[Tensor] = []
                logits, _ = Tap(self._run, place).rerouted(images, partial(_shown, seen))
                values = seen[0]
        return Pass(logits, layers.passed, values)

    def _run(self, images: Tensor) -> Tensor:
        logits: Tensor = functional_call(self._network, self._weights, (images,))
        return logits


Memory = dict[int, tuple[Tensor, int]]
"""Results by the number of their operation in a pass, each with its version when it was new."""


class _Interception(TorchFunctionMode):
    def __init__(self, names: Mapping[int, str], change: Change, memory: Memory) -> None:
        super().__init__()
        self._names = names
        self._change = change
        self._memory = memory
        self._count = 0
        self.passed: dict[str, Passed] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Collection[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        del types
        kwargs = kwargs or {}
        self._count += 1
        result = self._remembered(func, args, kwargs)
        if func not in (functional.linear, functional.conv2d):
            return result
        name = self._names.get(id(args[1]))
        if name is None:
            return result
        dense = func is functional.linear
        positions = _dense if dense else _flat
        batch, outputs, count = positions(result).shape
        met = Met(
            name,
            moving=args[0].requires_grad,
            columns=lambda: _dense(args[0]) if dense else _unfolded(*args, **kwargs),
            shape=(batch, outputs, count),
        )
        change = self._change(met)
        if dense and result.ndim > 2:
            change = change.transpose(1, 2)
        result = result + change.reshape(result.shape)
        self.passed[name] = Passed(result, positions)
        # A copy: what follows may work in place, and ``result`` is what is differentiated by.
        return result.clone()

    def _remembered(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        known = self._memory.get(self._count)
        # An operation in place, later in the pass, has given a remembered tensor another version.
        if known is not None and known[0]._version == known[1]:
            return known[0]
        result = func(*args, **kwargs)
        still = known is None and isinstance(result, Tensor) and not result.requires_grad
        if still and not any(result is given for given in args):
            self._memory[self._count] = (result, result._version)
        return result


def _shown(seen: list[Tensor], activations: Tensor) -> Tensor:
    """Remember the activations as something to differentiate by, and pass a copy on."""
    seen.append(activations if activations.requires_grad else activations.detach().requires_grad_())
    return seen[0].clone()


def _dense(values: Tensor) -> Tensor:
    """``(B, n)`` as ``(B, n, 1)``; ``(B, P, n)`` as ``(B, n, P)``."""
    return values[..., None] if values.ndim == 2 else values.transpose(1, 2)


def _flat(values: Tensor) -> Tensor:
    return values.flatten(start_dim=2)


def _unfolded(  # noqa: PLR0917, it takes what conv2d was called with
    images: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    del bias, groups
    return functional.unfold(
        images, weight.shape[2:], dilation=dilation, padding=padding, stride=stride
    )

"""Layer-wise relevance propagation through a network that was not written for it.

Inside ``RelevanceRules`` a forward pass leaves a record of every operation on what is being
explained; values and gradients are what they always are. Afterwards relevance goes back along the
record by rules of its own, each an ordinary function of activations, weights and relevance: it may
be differentiated by whatever those depend on, and ``torch.func`` may batch and nest it. So a
network needs no second description of itself, whatever its blocks look like.

The rules are those of the authors' code of Relevance-CAM (Lee et al., CVPR 2021):

    convolution, dense   R_i = sum_j (x_i+ w_ij+ + x_i- w_ij-) R_j / Z_j, Z_j the same sum over i;
                         a convolution's bias is part of Z, twice
    addition, average    R_i = x_i R_j / Z_j for each x_i in Z_j
    maximum              to the largest, as a gradient
    ReLU, normalisation  passed through
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.func import vjp
from torch.overrides import TorchFunctionMode, resolve_name

from models.errors import ExplanationError

__all__ = ["RelevanceRules"]

STABILISER = 1e-9
"""Added to the magnitude of what is divided by."""

WayBack = Callable[[Any], Sequence[Tensor]]
"""From cotangents of an operation's output to those of its inputs."""

Shares = Callable[[Sequence[Tensor]], Sequence[Tensor]]
"""From the relevance of an operation's outputs to that of its inputs."""


@dataclass(frozen=True, slots=True)
class _Step:
    """An operation on what is being explained: who shares the relevance of what."""

    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]
    shares: Shares


class RelevanceRules(TorchFunctionMode):  # type: ignore[no-untyped-call, unused-ignore]
    """Records what runs inside on tensors that are watched, and what is made of them.

    Raises:
        ExplanationError: an operation on what is being explained has no rule; names it.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        self._steps: list[_Step] = []
        self._watched: dict[int, Tensor] = {}  # held, so that no other tensor gets their id

    def watch(self, tensor: Tensor) -> None:
        """Relevance is to be known of ``tensor``, and so of all that is made of it from now on."""
        self._watched[id(tensor)] = tensor

    def propagated(self, output: Tensor, relevance: Tensor, to: Tensor) -> Tensor:
        """The relevance of ``to`` if that of ``output``, made of it inside, is ``relevance``.

        Called outside of the pass that was recorded. Zero where nothing leads from one to the
        other.
        """
        found = {id(output): relevance}
        for step in reversed(self._steps):
            given = [found.pop(id(made), None) for made in step.outputs]
            if all(part is None for part in given):
                continue
            full = [
                torch.zeros_like(made) if part is None else part
                for made, part in zip(step.outputs, given, strict=True)
            ]
            for x, part in zip(step.inputs, step.shares(full), strict=True):
                known = found.get(id(x))
                found[id(x)] = part if known is None else known + part
        return found.get(id(to), torch.zeros_like(to))

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run one operation, and write down its rule."""
        del types
        given = dict(kwargs or {})
        name = func.__name__
        explained = [x for x in _tensors((*args, *given.values())) if id(x) in self._watched]
        if not explained:
            return func(*args, **given)
        if name in WEIGHTED:
            made = func(*args, **given)
            return self._noted(explained, made, _weighted(func, name, args, given))
        if name in ADDED and not given and all(isinstance(part, Tensor) for part in args):
            # In place or not: what is added to may be wanted by another branch.
            return self._noted(args, torch.add(*args), _proportional(torch.add, args))
        if name in AVERAGED:
            x = args[0]
            average = _of_first(func, args, given)
            return self._noted([x], average(x), _proportional(average, [x]))
        if name in PASSED:
            x = args[0]
            return self._noted([x], _of_first(func, args, given)(x.clone()), _passed)
        if name in MOVED:
            made = func(*args, **given)
            return self._noted(explained, made, _moved(func, args, given, explained))
        raise ExplanationError(
            f"relevance-cam has no rule for {resolve_name(func) or name}: take another interpreter"
        )

    def _noted(self, inputs: Sequence[Tensor], made: Any, shares: Shares) -> Any:
        outputs = list(_tensors([made]))
        if outputs:  # a size is made of a tensor and is none
            self._steps.append(_Step(inputs, outputs, shares))
            for output in outputs:
                self.watch(output)
        return made


WEIGHTED = frozenset({"conv2d", "linear"})
ADDED = frozenset({"add", "add_", "__add__", "__iadd__", "__radd__"})
AVERAGED = frozenset({"avg_pool2d", "adaptive_avg_pool2d", "mean"})
PASSED = frozenset({"batch_norm", "dropout", "relu", "relu_"})
# Where things stand, which of them are taken, and what asks for neither: as gradients go.
ARRANGED = frozenset({"cat", "chunk", "clone", "contiguous", "flatten", "permute", "reshape"})
RESHAPED = frozenset({"split", "squeeze", "transpose", "unsqueeze", "view"})
CHOSEN = frozenset({"__getitem__", "_max_pool2d", "max_pool2d"})
ASKED = frozenset({"__get__", "dim", "size"})
MOVED = ARRANGED | RESHAPED | CHOSEN | ASKED


def _tensors(values: Any) -> Iterator[Tensor]:
    """Those among ``values`` and in the lists and tuples among them."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


def _of_first(
    func: Callable[..., Any], args: tuple[Any, ...], given: dict[str, Any]
) -> Callable[[Tensor], Tensor]:
    """``func`` of its first argument, the others as they were."""

    def run(x: Tensor) -> Tensor:
        result: Tensor = func(x, *args[1:], **given)
        return result

    return run


def _weighted(
    func: Callable[..., Any], name: str, args: tuple[Any, ...], given: dict[str, Any]
) -> Shares:
    """The alpha = 1 rule: what speaks for an output shares its relevance."""
    names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    named = {**dict(zip(names, args, strict=False)), **given}
    x, weight, bias = (named.pop(key, None) for key in names[:3])
    # The authors count a convolution's bias, and not a dense layer's.
    offset = bias if name == "conv2d" else None

    def part(values: Tensor, weights: Tensor) -> tuple[Tensor, WayBack]:
        return _with_way_back(lambda v: func(v, weights, offset, **named), values)

    def shares(relevance: Sequence[Tensor]) -> Sequence[Tensor]:
        above, below = x.clamp(min=0), x.clamp(max=0)
        one, back_of_one = part(above, weight.clamp(min=0))
        other, back_of_other = part(below, weight.clamp(max=0))
        share = _divided(relevance[0], one + other)
        return [above * back_of_one(share)[0] + below * back_of_other(share)[0]]

    return shares


def _proportional(combine: Callable[..., Tensor], parts: Sequence[Tensor]) -> Shares:
    """Each part of a sum or mean gets of its relevance what it gave."""

    def shares(relevance: Sequence[Tensor]) -> Sequence[Tensor]:
        combined, back = _with_way_back(combine, *parts)
        given = back(_divided(relevance[0], combined))
        return [part * share for part, share in zip(parts, given, strict=True)]

    return shares


def _passed(relevance: Sequence[Tensor]) -> Sequence[Tensor]:
    """Relevance as it came."""
    return relevance


def _moved(
    func: Callable[..., Any],
    args: tuple[Any, ...],
    given: dict[str, Any],
    explained: Sequence[Tensor],
) -> Shares:
    """To where it came from."""
    places = {id(x): number for number, x in enumerate(explained)}

    def again(*values: Tensor) -> Any:
        def put(value: Any) -> Any:
            if isinstance(value, Tensor):
                return values[places[id(value)]] if id(value) in places else value
            if isinstance(value, (list, tuple)):
                return type(value)(put(each) for each in value)
            return value

        made = func(*put(args), **{key: put(value) for key, value in given.items()})
        return tuple(_tensors([made]))

    def shares(relevance: Sequence[Tensor]) -> Sequence[Tensor]:
        _, back = _with_way_back(again, *explained)
        return back(tuple(relevance))

    return shares


def _with_way_back(func: Callable[..., Any], *values: Tensor) -> tuple[Any, WayBack]:
    """``func`` of ``values``, and the transpose of its derivative there."""
    made, back, *_ = vjp(func, *values)
    return made, back


def _divided(relevance: Tensor, total: Tensor) -> Tensor:
    """``relevance / total``, away from zero; nothing where nothing was given."""
    stable = total + STABILISER * total.sign()
    return torch.where(total == 0, 0.0, relevance / torch.where(total == 0, 1.0, stable))

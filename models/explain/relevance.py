"""Layer-wise relevance propagation, written as the backward pass of a network.

Inside ``RelevanceRules`` every operation on what is being explained has a backward pass that
distributes relevance in the place of gradients; forward values are what they always are. So a
network needs no second description of itself, whatever its blocks look like.

The rules are those of the authors' code of Relevance-CAM (Lee et al., CVPR 2021):

    convolution, dense   R_i = sum_j (x_i+ w_ij+ + x_i- w_ij-) R_j / Z_j, Z_j the same sum over i;
                         a convolution's bias is part of Z, twice
    addition, average    R_i = x_i R_j / Z_j for each x_i in Z_j
    maximum              to the largest, as a gradient
    ReLU, normalisation  passed through
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, resolve_name

from models.errors import ExplanationError

__all__ = ["RelevanceRules"]

STABILISER = 1e-9
"""Added to the magnitude of what is divided by."""

Linear = Callable[..., Tensor]


class RelevanceRules(TorchFunctionMode):  # type: ignore[no-untyped-call, unused-ignore]
    """Replaces the backward pass of what runs inside by the propagation of relevance.

    Raises:
        ExplanationError: an operation on what is being explained has no rule; names it.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run one operation under its rule."""
        del types
        given = dict(kwargs or {})
        name = func.__name__
        if not _explained(args) and not _explained(given.values()):
            return func(*args, **given)
        if name in WEIGHTED:
            return _weighted(func, name, args, given)
        if name in ADDED and not given and all(isinstance(part, Tensor) for part in args):
            # In place or not: what is added to may be wanted by another branch.
            return _Proportional.apply(torch.add, *args)
        if name in AVERAGED:
            return _Proportional.apply(lambda x: func(x, *args[1:], **given), args[0])
        if name in PASSED:
            return _Passed.apply(lambda x: func(x.clone(), *args[1:], **given), args[0])
        if name in MOVED:
            return func(*args, **given)
        raise ExplanationError(
            f"relevance-cam has no rule for {resolve_name(func) or name}: take another interpreter"
        )


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


def _explained(values: Any) -> bool:
    return any(
        (isinstance(value, Tensor) and value.requires_grad)
        or (isinstance(value, (list, tuple)) and _explained(value))
        for value in values
    )


def _weighted(func: Linear, name: str, args: tuple[Any, ...], given: dict[str, Any]) -> Any:
    names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    named = {**dict(zip(names, args, strict=False)), **given}
    x, weight, bias = (named.pop(key, None) for key in names[:3])

    def plain(values: Tensor, weights: Tensor, offset: Tensor | None) -> Tensor:
        result: Tensor = func(values, weights, offset, **named)
        return result

    # The authors count a convolution's bias, and not a dense layer's.
    return _Weighted.apply((plain, name == "conv2d"), x, weight, bias)


class _Weighted(torch.autograd.Function):
    """The alpha = 1 rule: what speaks for an output shares its relevance."""

    @staticmethod
    def forward(
        ctx: Any, how: tuple[Linear, bool], x: Tensor, weight: Tensor, bias: Tensor | None
    ) -> Tensor:
        plain, counted = how
        ctx.plain, ctx.offset = plain, bias if counted else None
        ctx.save_for_backward(x, weight)
        return plain(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        parts = ((x.clamp(min=0), weight.clamp(min=0)), (x.clamp(max=0), weight.clamp(max=0)))
        with torch.enable_grad():
            inputs = [values.detach().requires_grad_() for values, _ in parts]
            outputs = [
                ctx.plain(values, weights.detach(), ctx.offset)
                for values, (_, weights) in zip(inputs, parts, strict=True)
            ]
        shares = _divided(relevance, (outputs[0] + outputs[1]).detach())
        gradients = torch.autograd.grad(outputs, inputs, [shares, shares])
        spread = inputs[0].detach() * gradients[0] + inputs[1].detach() * gradients[1]
        return None, spread, None, None


class _Proportional(torch.autograd.Function):
    """Each part of a sum or mean gets of its relevance what it gave."""

    @staticmethod
    def forward(ctx: Any, combine: Linear, *parts: Tensor) -> Tensor:
        ctx.combine = combine
        ctx.save_for_backward(*parts)
        return combine(*parts)

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor | None, ...]:
        with torch.enable_grad():
            parts = [part.detach().requires_grad_() for part in ctx.saved_tensors]
            combined = ctx.combine(*parts)
        shares = _divided(relevance, combined.detach())
        gradients = torch.autograd.grad(combined, parts, shares)
        spread = (part.detach() * gradient for part, gradient in zip(parts, gradients, strict=True))
        return None, *spread


class _Passed(torch.autograd.Function):
    """Relevance as it came."""

    @staticmethod
    def forward(ctx: Any, change: Linear, x: Tensor) -> Tensor:
        del ctx
        return change(x)

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor | None, ...]:
        del ctx
        return None, relevance


def _divided(relevance: Tensor, total: Tensor) -> Tensor:
    """``relevance / total``, away from zero; nothing where nothing was given."""
    stable = total + STABILISER * total.sign()
    return torch.where(total == 0, 0.0, relevance / torch.where(total == 0, 1.0, stable))

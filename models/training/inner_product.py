"""Inner products of gradients where they lie."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["inner_product"]


def inner_product(ours: Sequence[Tensor | None], theirs: Sequence[Tensor | None]) -> Tensor | None:
    """``<a, b>`` of two gradients, a tensor per parameter each, where None is zero.

    Nothing is copied: laying the gradient of a deep network out as one vector costs as much as a
    pass through it. Each tensor is summed up by the linear algebra library, and the tensors in
    float64.

    Args:
        ours: a; the tensors may have any memory layout.
        theirs: b; each tensor shaped as that of ``ours``.

    Returns:
        A float64 scalar on the device of the gradients, or None if no parameter has both.
    """
    shared = [
        _dot(one, other)
        for one, other in zip(ours, theirs, strict=True)
        if one is not None and other is not None
    ]
    return torch.stack(shared).double().sum() if shared else None


def _dot(one: Tensor, other: Tensor) -> Tensor:
    if one.stride() == other.stride():
        # Walked in the order of memory, so that flattening is a view: torch lays some weight
        # gradients out with channels last, whatever the layout of the weights.
        order = sorted(range(one.ndim), key=one.stride, reverse=True)
        one, other = one.permute(order), other.permute(order)
    return torch.dot(one.flatten(), other.flatten())

"""Sparse logits: all but a few classes get no probability at all."""

from __future__ import annotations

from torch import Tensor

from models.simplex import largest

__all__ = ["sparse"]


def sparse(logits: Tensor, ratio: float) -> Tensor:
    """The ``n = max(1, round(ratio K))`` largest logits of each row; minus infinity elsewhere.

    A softmax of any temperature is then exactly zero outside the n classes. Stingy Teacher (Ma et
    al., 2022) speaks of zeroing out, but its code does this; logits of zero would leave a nearly
    uniform distribution at high temperatures.

    Args:
        logits: ``(B, K)``.
        ratio: share of the classes that is kept, above 0 and at most 1; of equal logits the lower
            index is kept.

    Returns:
        ``(B, K)``.
    """
    # Rounded, not truncated: 0.29 * 100 is 28.999... in floating point.
    count = max(1, round(ratio * logits.shape[1]))
    return logits.masked_fill(~largest(logits, count), float("-inf"))

"""Sparse logits: all but a few classes get no probability at all."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from models.simplex import largest

__all__ = ["Rest", "sparse"]

Rest = Literal["excluded", "zeroed"]


def sparse(logits: Tensor, ratio: float, rest: Rest = "excluded") -> Tensor:
    """The ``n = max(1, round(ratio K))`` largest logits of each row; minus infinity elsewhere.

    A softmax of any temperature is then exactly zero outside the n classes. Stingy Teacher (Ma et
    al., 2022) speaks of zeroing out, but its code does this; logits of zero would leave a nearly
    uniform distribution at high temperatures.

    Args:
        logits: ``(B, K)``.
        ratio: share of the classes that is kept, above 0 and at most 1; of equal logits the lower
            index is kept.
        rest: what becomes of the other logits: ``excluded`` makes them minus infinity, ``zeroed``
            zero, as the texts have it.

    Returns:
        ``(B, K)``.
    """
    # Rounded, not truncated: 0.29 * 100 is 28.999... in floating point.
    count = max(1, round(ratio * logits.shape[1]))
    return logits.masked_fill(~largest(logits, count), float("-inf") if rest == "excluded" else 0.0)

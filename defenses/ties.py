"""Ties at the top: whoever creates one breaks it toward the top-1 that was given."""

from __future__ import annotations

import torch
from torch import Tensor

from models.simplex import top1

__all__ = ["break_ties"]


def break_ties(probabilities: Tensor, top: Tensor, *, step: float | None = None) -> Tensor:
    """Raise the entry ``top`` of a row just above the entries that it is tied with.

    Args:
        probabilities: ``(B, K)`` float32 on the simplex.
        top: ``(B,)`` int64, the top-1 to keep.
        step: what to move from the lowest tied entry to ``top``, for probabilities that are
            multiples of it; None raises ``top`` by one float32 step, which the simplex tolerates.

    Returns:
        ``(B, K)``; rows change only where ``top`` is a maximum but not the lowest-index one.
    """
    winner = top1(probabilities)
    column, rival = top[:, None], winner[:, None]
    held, highest = probabilities.gather(1, column), probabilities.gather(1, rival)
    tied = (held == highest) & (column != rival)
    if step is None:
        upper = torch.full_like(held, torch.inf)
        return probabilities.scatter(
            1, column, torch.where(tied, torch.nextafter(held, upper), held)
        )
    moved = probabilities.scatter(1, rival, highest - step).scatter(1, column, held + step)
    return torch.where(tied, moved, probabilities)

"""Ties at the top: whoever creates one breaks it toward the top-1 that was given."""

from __future__ import annotations

import torch
from torch import Tensor

from models.simplex import top1

__all__ = ["break_ties"]


def break_ties(probabilities: Tensor, top: Tensor, *, steps: int | None = None) -> Tensor:
    """Raise the entry ``top`` of a row just above the entries that it is tied with.

    Args:
        probabilities: ``(B, K)`` float32 on the simplex.
        top: ``(B,)`` int64, the top-1 to keep.
        steps: for probabilities that are multiples of ``1 / steps``: one such unit is moved from
            the lowest tied entry to ``top``, and they still are. None raises ``top`` by one float32
            step, which the simplex tolerates.

    Returns:
        ``(B, K)``; rows change only where ``top`` is a maximum but not the lowest-index one.
    """
    winner = top1(probabilities)
    column, rival = top[:, None], winner[:, None]
    held, highest = probabilities.gather(1, column), probabilities.gather(1, rival)
    tied = (held == highest) & (column != rival)
    if steps is None:
        upper = torch.full_like(held, torch.inf)
        return probabilities.scatter(
            1, column, torch.where(tied, torch.nextafter(held, upper), held)
        )
    # In whole units: a sum of floats would leave the grid, and so mark the rows that were tied.
    units = torch.round(probabilities.to(torch.float64) * steps)
    one = tied.to(torch.float64)
    moved = units.scatter_add(1, rival, -one).scatter_add(1, column, one)
    return torch.where(tied, (moved / steps).to(torch.float32), probabilities)

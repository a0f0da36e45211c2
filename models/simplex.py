"""Arithmetic on probability vectors that everything above agrees on.

Top-1 is the lowest-index maximum, and rounding keeps the simplex by largest
remainder, whoever rounds: the engine (to the canonical grid), the ``rounding``
defense, the attack client when it replays an answer.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["GRID", "largest", "on_simplex", "one_hot", "round_to_grid", "top1"]

GRID = 100_000
"""Steps of the canonical grid: the victim's probabilities are multiples of 1e-5."""


def top1(probabilities: Tensor) -> Tensor:
    """Index of the lowest-index maximum of each row: ``(B, K)`` to ``(B,)`` int64.

    ``torch.argmax`` does not promise which of several equal maxima it returns.
    """
    highest = probabilities.max(dim=1, keepdim=True).values
    return (probabilities == highest).to(torch.uint8).argmax(dim=1)


def on_simplex(probabilities: Tensor, *, tolerance: float = 1e-6) -> bool:
    """Whether each row of ``(B, K)`` is finite, not negative, and sums to 1 to ``tolerance``."""
    # A NaN fails both comparisons; so does an infinity fail the sum.
    sums = probabilities.sum(dim=1, dtype=torch.float64)
    return bool((((sums - 1.0).abs() <= tolerance) & (probabilities >= 0).all(dim=1)).all())


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Labels ``(B,)`` int64 as float32 vectors ``(B, K)``."""
    return torch.nn.functional.one_hot(labels, classes).to(torch.float32)


def largest(values: Tensor, count: int | Tensor) -> Tensor:
    """Which entries are among the ``count`` largest of their row, lower index first of equals.

    Args:
        values: ``(B, K)``.
        count: how many, 0 to K: one number, or ``(B, 1)`` int64, a number per row.

    Returns:
        ``(B, K)`` bool. Only values decide, never the order in which a sort leaves equals.
    """
    classes = values.shape[1]
    if isinstance(count, int):
        least = values.topk(max(count, 1), dim=1).values[:, -1:]
    else:
        place = (count - 1).clamp(0, classes - 1)
        least = values.sort(dim=1, descending=True).values.gather(1, place)
    above, level = values > least, values == least
    room = count - above.sum(dim=1, keepdim=True)
    return above | (level & (level.cumsum(dim=1) <= room))


def round_to_grid(probabilities: Tensor, steps: int) -> Tensor:
    """Multiples of ``1 / steps`` that sum to 1, nearest by the largest-remainder rule.

    Args:
        probabilities: ``(B, K)``, not negative; a row is taken relative to its sum, which float
            error may have left beside 1. A row that sums to 0 gives NaN.
        steps: grid steps per unit, for instance 1000 for three decimals; positive.

    Returns:
        ``(B, K)`` float32. Rows are rounded down to the grid, then the units still missing go
        one each to the largest remainders, lower index first where remainders are equal. The
        order of a row's entries is kept, up to new ties.
    """
    # Relative to the sum: one step may be as small as the float error of a sum, and units that
    # had to be taken back would have to be taken from somewhere.
    exact = probabilities.to(torch.float64)
    scaled = exact / exact.sum(dim=1, keepdim=True) * steps
    # A product that float error left a hair below a grid point belongs to that point.
    units = torch.floor(scaled + 1e-6)
    remainder = scaled - units
    # Every entry lost less than one unit, so fewer than K are missing: one each is enough.
    missing = steps - units.sum(dim=1, keepdim=True)
    units = units + largest(remainder, missing.to(torch.int64)).to(torch.float64)
    return (units / steps).to(torch.float32)

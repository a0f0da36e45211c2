"""Arithmetic on probability vectors that everything above agrees on.

Top-1 is the lowest-index maximum, and rounding keeps the simplex by largest
remainder, whoever rounds: the engine (to the canonical grid), the ``rounding``
defense, the attack client when it replays an answer.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["GRID", "one_hot", "round_to_grid", "top1"]

GRID = 100_000
"""Steps of the canonical grid: the victim's probabilities are multiples of 1e-5."""


def top1(probabilities: Tensor) -> Tensor:
    """Index of the lowest-index maximum of each row: ``(B, K)`` to ``(B,)`` int64.

    ``torch.argmax`` does not promise which of several equal maxima it returns.
    """
    highest = probabilities.max(dim=1, keepdim=True).values
    return (probabilities == highest).to(torch.uint8).argmax(dim=1)


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Labels ``(B,)`` int64 as float32 vectors ``(B, K)``."""
    return torch.nn.functional.one_hot(labels, classes).to(torch.float32)


def round_to_grid(probabilities: Tensor, steps: int) -> Tensor:
    """Multiples of ``1 / steps`` that sum to 1, nearest by the largest-remainder rule.

    Args:
        probabilities: ``(B, K)`` on the simplex.
        steps: grid steps per unit, for instance 1000 for three decimals; positive.

    Returns:
        ``(B, K)`` float32. Rows are rounded down to the grid, then the units still missing go
        one each to the largest remainders, lower index first where remainders are equal. The
        order of a row's entries is kept, up to new ties.
    """
    scaled = probabilities.to(torch.float64) * steps
    # A product that float error left a hair below a grid point belongs to that point.
    units = torch.floor(scaled + 1e-6)
    remainder = scaled - units
    missing = steps - units.sum(dim=1, keepdim=True)
    order = remainder.argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(dim=1, stable=True).to(torch.float64)
    units = units + (rank < missing).to(torch.float64)
    # More than one unit per entry is missing only where the input did not sum to 1 within K/steps.
    surplus = steps - units.sum(dim=1, keepdim=True)
    largest = one_hot(top1(units), units.shape[1]).to(torch.float64)
    units = (units + surplus * largest).clamp_(min=0)
    return (units / steps).to(torch.float32)

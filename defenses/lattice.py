"""The coarsest of ever finer grids on which an answer stays within a budget."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from defenses.budget import SLACK
from defenses.ties import break_ties
from models.simplex import GRID, round_to_grid, top1

__all__ = ["coarsest_within"]


def coarsest_within(given: Tensor, epsilon: float) -> Tensor:
    """Each row on the first of the grids 1, 1/2, 1/4, ... that moves it by at most ``epsilon``.

    The first grid is the label alone. Rounding K probabilities to steps of 1/m by largest
    remainders moves them by at most K / 2m, so a grid within ``epsilon`` is always found; a budget
    below the victim's own grid leaves the row as it is. These are fixed words that nobody had to
    store, from few to many: an ordered quantiser that covers the whole simplex.

    Args:
        given: ``(B, K)`` float32 on the simplex.
        epsilon: an L1 distance in [0, 2].

    Returns:
        ``(B, K)`` float32 with the top-1 that was given. The work depends on neither row nor
        batch, but for its size.
    """
    classes = given.shape[1]
    finest = min(GRID, math.ceil(classes / (2 * epsilon))) if epsilon > 0 else GRID
    top = top1(given)
    exact = given.to(torch.float64)
    word, settled = given, torch.zeros_like(top, dtype=torch.bool)
    for power in range(max(0, finest - 1).bit_length() + 1):
        rounded = round_to_grid(given, 2**power)
        near = (rounded.to(torch.float64) - exact).abs().sum(dim=1) <= epsilon + SLACK
        word = torch.where((near & ~settled)[:, None], rounded, word)
        settled = settled | near
    return break_ties(word, top)

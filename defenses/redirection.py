"""The answer within an L1 budget that costs least: exact, for a whole batch at once."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["redirected"]


def redirected(v: Tensor, cost: Tensor, epsilon: float) -> Tensor:
    """The minimum of ``cost . v'`` over the simplex with ``|v' - v|_1 <= epsilon``.

    Mass ``min(1 - v_c, epsilon / 2)`` goes to the cheapest class c, taken from the dearest classes
    first, each down to 0 before the next: the greedy solution of "How to Steer Your Adversary"
    (Mazeika, Li and Forsyth, ICML 2022), which is exact because every unit of mass
    costs the same budget wherever it comes from. Of equal costs the lower index counts as cheaper.

    Args:
        v: ``(B, K)`` float64 on the simplex.
        cost: ``(B, K)`` float64.
        epsilon: the budget, an L1 distance in [0, 2].

    Returns:
        ``(B, K)`` float64.
    """
    order = cost.sort(dim=1, stable=True).indices
    ranked = v.gather(1, order)
    moved = (1.0 - ranked[:, :1]).clamp(min=0.0, max=epsilon / 2.0)
    # What is left to take, once every dearer class has given all it has.
    dearer = ranked.flip(1).cumsum(dim=1).flip(1) - ranked
    taken = torch.minimum((moved - dearer).clamp(min=0.0), ranked)
    taken[:, 0] = 0.0
    kept = ranked - taken
    kept[:, :1] += taken.sum(dim=1, keepdim=True)
    return torch.zeros_like(v).scatter(1, order, kept)

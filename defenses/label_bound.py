"""The answer within an L1 budget that costs least and keeps its label, for a whole batch."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["redirected_keeping_label"]

POINTS = 32
"""Shares of the label that are tried side by side."""

ROUNDS = 9
"""How often the search is narrowed, each time to two neighbouring intervals: below 1e-10."""

STAY = 1e-8
"""Preference for a share near the label's own, where several are equally good."""

INFEASIBLE = 1e6
"""Weight of a violated constraint against any cost."""


def redirected_keeping_label(
    v: Tensor, cost: Tensor, epsilon: float, *, top: Tensor, margin: float
) -> Tensor:
    """The minimum of ``cost . v'`` with ``|v' - v|_1 <= epsilon`` and the label ahead.

    Ahead means ``v'_t >= v'_k + m`` for every ``k != t``, where m is ``margin`` or, if that is
    less, the lead that the label had.

    For a given share s of the label the rest is a matter of order: what exceeds ``s - m`` is cut,
    then mass goes to the cheapest classes, each up to ``s - m``, and comes from the dearest. The
    cost of the best answer is convex in s, as that of any linear program in its right-hand side,
    so s is found by a search whose steps are the same for every row.

    Args:
        v: ``(B, K)`` float64 on the simplex.
        cost: ``(B, K)`` float64.
        epsilon: the budget, an L1 distance in [0, 2].
        top: ``(B,)`` int64, the label of each row: a maximum of v.
        margin: at least 0.

    Returns:
        ``(B, K)`` float64, within 1e-7 of the least cost.
    """
    column = top[:, None]
    share = v.gather(1, column)
    others = v.scatter(1, column, 0.0)
    lead = (share - others.amax(dim=1, keepdim=True)).clamp(min=0.0, max=margin)
    # The label itself neither gives nor takes in what follows: last, with nothing and no room.
    order = cost.scatter(1, column, torch.inf).sort(dim=1, stable=True).indices
    ranked, prices = others.gather(1, order), cost.gather(1, order)
    prices[:, -1] = 0.0
    label_price = cost.gather(1, column)
    low = (share - epsilon / 2.0).clamp(min=0.0)
    high = (share + epsilon / 2.0).clamp(max=1.0)
    grid = torch.linspace(0.0, 1.0, POINTS, dtype=v.dtype, device=v.device)

    def judged(tried: Tensor) -> Tensor:
        answer, violation = _rest(ranked, share, tried, lead, epsilon)
        value = (answer * prices[:, None]).sum(dim=2) + tried * label_price
        value = value + STAY * (tried - share).abs()
        return torch.where(violation > 1e-12, INFEASIBLE * (1.0 + violation), value)

    for _ in range(ROUNDS):
        tried = low + (high - low) * grid
        best = judged(tried).argmin(dim=1, keepdim=True)
        low = tried.gather(1, (best - 1).clamp(min=0))
        high = tried.gather(1, (best + 1).clamp(max=POINTS - 1))
    # The label's own share is always feasible, whatever rounding does to the one found.
    tried = torch.cat([share, (low + high) / 2.0, low, high], dim=1)
    chosen = tried.gather(1, judged(tried).argmin(dim=1, keepdim=True))
    answer = _rest(ranked, share, chosen, lead, epsilon)[0][:, 0]
    return torch.zeros_like(v).scatter(1, order, answer).scatter(1, column, chosen)


def _rest(
    ranked: Tensor, share: Tensor, tried: Tensor, lead: Tensor, epsilon: float
) -> tuple[Tensor, Tensor]:
    """The best other classes for each share that is tried, and by how much the share is illegal.

    Args:
        ranked: ``(B, K)``, the others from cheapest to dearest, then 0 in place of the label.
        share: ``(B, 1)``, the label's.
        tried: ``(B, N)``, what it might become.
        lead: ``(B, 1)``, how far ahead it must stay.
        epsilon: the budget.

    Returns:
        ``(B, N, K)`` in the order of ``ranked``, and ``(B, N)``.
    """
    classes = ranked.shape[1]
    room = tried - lead
    cap = room.clamp(min=0.0)[:, :, None]
    cut = torch.minimum(ranked[:, None], cap)
    lost = (ranked[:, None] - cut).sum(dim=2)
    needed = (share - tried) + lost  # what the others must gain in all, or lose if negative
    spare = epsilon - (tried - share).abs() - lost
    capacity = cap.expand_as(cut).clone()
    capacity[:, :, -1] = 0.0
    # Without a budget: the cheapest are filled first. With it: as much of that as it pays for.
    mass = (1.0 - tried)[:, :, None]
    filled = torch.minimum((mass - (capacity.cumsum(dim=2) - capacity)).clamp(min=0.0), capacity)
    wished = (filled - cut).clamp(min=0.0)
    up = torch.minimum(wished.sum(dim=2), (spare + needed) / 2.0).clamp(min=0.0)
    down = (up - needed).clamp(min=0.0)
    before = wished.cumsum(dim=2) - wished
    gained = torch.minimum((up[:, :, None] - before).clamp(min=0.0), wished)
    dearer = cut.flip(2).cumsum(dim=2).flip(2) - cut
    given = torch.minimum((down[:, :, None] - dearer).clamp(min=0.0), cut)
    violation = torch.stack(
        [needed.abs() - spare, (1.0 - tried) - (classes - 1) * cap[:, :, 0], -room]
    )
    return cut + gained - given, violation.amax(dim=0).clamp(min=0.0)

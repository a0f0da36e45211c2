"""Which places of a map mattered more than which, as DeepDefense keeps it (Eqs. 4 and 7)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from models.explain import canonical_maps

__all__ = ["DELTA", "Ranking", "agreement", "ranking", "ranking_penalty"]

APART = 1e-6
"""Values closer than this share of the span have no order; a Grad-CAM has many exact zeros."""

DELTA = 0.3
"""Of the Huber loss of Eq. 7, as in the paper."""


class Ranking(NamedTuple):
    """The order of the values of the victim's maps.

    Attributes:
        order: ``(..., n)`` int64, places from the greatest value to the least; equals by place.
        apart: ``(..., n - 1)``, 1 where a value and the next are more than ``APART`` apart, else 0.
        span: ``(...)``, greatest value minus least; 1 for a map without contrast.
    """

    order: Tensor
    apart: Tensor
    span: Tensor


def ranking(maps: Tensor) -> Ranking:
    """The ranking of maps ``(..., h, w)``, at the resolution they have."""
    values = maps.flatten(-2)
    ordered = values.sort(dim=-1, descending=True, stable=True)
    span = ordered.values[..., 0] - ordered.values[..., -1]
    span = torch.where(span > APART, span, torch.ones_like(span))
    between = ordered.values[..., :-1] - ordered.values[..., 1:]
    apart = between > APART * span.unsqueeze(-1)
    return Ranking(ordered.indices, apart.to(maps.dtype), span)


def ranking_penalty(maps: Tensor, victims: Ranking) -> Tensor:
    """``L_int`` of Eq. 7: by how much consecutive places of the ranking are out of order.

    In units of the victim's span: a map leaves stretched, so that its scale means nothing, and
    ``DELTA`` shall not mean something else for another network.

    Args:
        maps: ``(..., h, w)``.
        victims: of the same leading axes.
    """
    ranked = maps.flatten(-2).gather(-1, victims.order) / victims.span.unsqueeze(-1)
    ahead = (ranked[..., 1:] - ranked[..., :-1]).clamp_min(0.0)
    huber = torch.where(ahead <= DELTA, 0.5 * ahead.square(), DELTA * (ahead - 0.5 * DELTA))
    return (huber * victims.apart).sum(dim=-1)


def agreement(maps: Tensor, victims: Tensor) -> Tensor:
    """Rank correlation (Spearman's) of each map with the victim's, both as they would leave.

    Args:
        maps: ``(B, h, w)``.
        victims: ``(B, h, w)``.

    Returns:
        ``(B,)`` float64 in [-1, 1]. Where the victim's map has no contrast there is no order to
        keep, and it is 1; where only the other has none it is 0.
    """
    one, other = (_centred_ranks(canonical_maps(each)) for each in (maps, victims))
    lengths = one.norm(dim=1) * other.norm(dim=1)
    cosine = (one * other).sum(dim=1) / torch.where(lengths > 0, lengths, 1.0)
    return torch.where(other.norm(dim=1) > 0, cosine, torch.ones_like(cosine))


def _centred_ranks(maps: Tensor) -> Tensor:
    """Ranks ``(B, n)`` of the values of each map, minus their mean; equals share theirs."""
    values = maps.flatten(1).contiguous()
    ordered = values.sort(dim=1).values
    below = torch.searchsorted(ordered, values)
    not_above = torch.searchsorted(ordered, values, right=True)
    return (below + not_above).double() / 2.0 - values.shape[1] / 2.0

"""What DeepDefense minimises, for queries side by side.

"Model Stealing Defense against Exploiting Information Leak through the Interpretation of Deep
Neural Nets" (Lee, Han and Lee, IJCAI 2022), Eqs. 5, 6 and 8; Eq. 7, of maps, has a file of its own.
Every function here works on the last axes and leaves the axes before them alone, so it serves one
query under ``torch.func.vmap`` as well as a batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from defenses.deep_defense_ranking import Ranking, ranking_penalty

__all__ = [
    "Goal",
    "Observed",
    "Update",
    "log_odds",
    "objective",
    "order_penalty",
]

Update = dict[str, Tensor]
"""What is optimised, by name; the first axis of each is the B queries."""

LEAST = -25.0
"""Log-probability below which a decoy pulls no more than it does there."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What the misdirection network of each query says.

    Attributes:
        log_probabilities: ``(B, K)`` float64.
        cosines: ``(B, G)``, of each group of layers: between the gradient of its own answer by its
            weights and the victim's; in [-1, 1].
        maps: ``(B, h, w)``, of the victim's label; None where no maps are served.
    """

    log_probabilities: Tensor
    cosines: Tensor
    maps: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Goal:
    """What the terms weigh, and what is asked of each query.

    Attributes:
        shares: ``(G,)``, the weight of each group's cosine: alpha and 1 - alpha; they sum to 1.
        order: ``(B, K)`` int64, classes by what the victim said of them, likeliest first.
        k: how many of them keep their order.
        order_weight: lambda_1.
        lead: by how much each is asked to lead over the next; the paper's 0 lets the penalty begin
            only where the order is already broken.
        decoys: ``(B,)`` int64, a wrong class for each query.
        decoy_weight: of how unlikely the decoy is; 0 in the paper, which has none.
        ranking: of the victim's maps; None where maps play no part.
        ranking_weight: lambda_2.
    """

    shares: Tensor
    order: Tensor
    k: int
    order_weight: float
    lead: float
    decoys: Tensor | None = None
    decoy_weight: float = 0.0
    ranking: Ranking | None = None
    ranking_weight: float = 0.0


def log_odds(logits: Tensor, labels: Tensor) -> Tensor:
    """``log f_y - log (1 - f_y)`` of logits ``(..., K)`` and labels ``(...)``.

    Its gradient has the direction of that of ``f_y`` and of ``log f_y``, by any weight, and unlike
    theirs does not vanish where the network is sure.
    """
    column = labels.unsqueeze(-1)
    others = logits.scatter(-1, column, -torch.inf)
    return logits.gather(-1, column).squeeze(-1) - torch.logsumexp(others, dim=-1)


def objective(observed: Observed, goal: Goal) -> Tensor:
    """``L_orth + lambda_1 L_pred + lambda_2 L_int`` of each query: Eq. 8.

    The cosine is squared, where Eq. 5 takes its magnitude: the same minimum, without the kink.
    """
    said = observed.log_probabilities
    probabilities = said.exp()
    turned = (observed.cosines.square() * goal.shares).sum(dim=-1)
    penalty = order_penalty(probabilities, goal.order, goal.k, lead=goal.lead)
    total = turned + goal.order_weight * penalty
    if goal.decoys is not None:
        decoy = said.gather(-1, goal.decoys.unsqueeze(-1)).squeeze(-1)
        # Bounded, so that one query's search is not all about a class it will never be given.
        total = total - goal.decoy_weight * decoy.clamp_min(LEAST)
    if goal.ranking is not None and observed.maps is not None:
        total = total + goal.ranking_weight * ranking_penalty(observed.maps, goal.ranking)
    return total


def order_penalty(probabilities: Tensor, order: Tensor, k: int, *, lead: float) -> Tensor:
    """``L_pred`` of Eq. 6: by how much the top k fail to lead, each over the next.

    Args:
        probabilities: ``(..., K)``.
        order: ``(..., K)`` int64, classes by the victim's probability, likeliest first.
        k: in [1, K].
        lead: what each is asked to lead by, at least 0.
    """
    ranked = probabilities.gather(-1, order)
    between = (ranked[..., 1:k] - ranked[..., : k - 1] + lead).clamp_min(0.0).sum(dim=-1)
    if k == order.shape[-1]:
        return between
    rest = ranked[..., k:].amax(dim=-1)
    return between + (rest - ranked[..., k - 1] + lead).clamp_min(0.0)

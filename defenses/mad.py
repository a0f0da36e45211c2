"""MAD: answers that turn the gradient of a thief who trains on them as far as a budget allows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from defenses.contract import Answers, Queries
from defenses.errors import OptionError
from defenses.gradient_defense import GradientDefense, Jacobian
from defenses.surrogate import Gradients, imagined
from defenses.ties import break_ties
from models.simplex import top1

__all__ = ["Mad", "Oracle"]

Oracle = Literal["extreme", "argmax"]
"""Which answers may be steered toward: any class, or any group that the top-1 leads."""

LEAD = 1e-5
"""What the top-1 weighs more than the rest of its group, before the group is normalised."""

EXHAUSTIVE = 10
"""Up to this many classes, every group is tried."""

TRIALS = 1024
"""Beyond, and with a surrogate network: a group grows until this many groups were tried."""

DIGITS = 1e9
"""Objectives are compared on a grid of 1 / DIGITS, so that float noise decides nothing."""


class Mad(GradientDefense):
    """Moves an answer toward the one that turns the thief's gradient most.

    ``max || a / |a| - b / |b| ||^2`` with ``a = G^T v'`` and ``b = G^T v``, over the answers v'
    of the simplex within an L1 distance epsilon of v: "Prediction Poisoning: Towards Defenses
    Against DNN Model Stealing Attacks" (Orekondy, Schiele and Fritz, ICLR 2020), by
    the authors' heuristic: choose the best target y*, then go toward it as far as the budget
    allows, ``v' = (1 - alpha) v + alpha y*`` with ``alpha = min(1, epsilon / |v - y*|_1)``.

    With ``jacobian="last_layer"``, which is what the authors' code uses, the objective is
    ``2 - 2 cos(v' - p, v - p)`` with p the surrogate's posterior: no Jacobian and no loop.
    With the uniform surrogate, ``extreme`` then takes the least likely class, and the best group
    of ``argmax`` of a size is the top-1 with the least likely classes: all sizes are tried, which
    is the exhaustive search at any number of classes.

    Args:
        epsilon: the budget, an L1 distance in [0, 2].
        surrogate: stands in for the clone (see ``GradientDefense``).
        oracle: ``extreme``, where y* is any single class, which may change the top-1; or
            ``argmax``, where y* is spread evenly over a group that holds the top-1.
        jacobian: ``last_layer``, or ``full``, gradients of every weight, for a surrogate network.

    Raises:
        OptionError: an option is out of range, or ``full`` without a network.
    """

    kind: ClassVar[str] = "mad"
    keeps_top1 = False

    def __init__(
        self,
        *,
        epsilon: float,
        surrogate: nn.Module | None = None,
        oracle: Oracle = "extreme",
        jacobian: Jacobian = "last_layer",
    ) -> None:
        super().__init__(surrogate=surrogate, epsilon=epsilon, jacobian=jacobian)
        if oracle not in ("extreme", "argmax"):
            raise OptionError("oracle", f"must be extreme or argmax, not {oracle!r}")
        self.oracle: Oracle = oracle
        self.keeps_top1 = oracle == "argmax"

    def apply(self, queries: Queries, answers: Answers) -> Answers:
        """Rows ``(B, K)`` at an L1 distance of at most epsilon."""
        given = answers.probabilities
        if given.shape[0] == 0:
            return answers
        v = given.to(torch.float64)
        top = top1(given)
        everything = self.jacobian == "full"
        gradients = imagined(
            self._surrogate, queries.images, given.shape[1], all_weights=everything
        )
        if self.oracle == "extreme":
            target = furthest_class(v, gradients)
        elif self._surrogate is None:
            target = least_likely_group(v, top, gradients)
        elif given.shape[1] <= EXHAUSTIVE:
            target = furthest_group(v, top, gradients)
        else:
            target = grown_group(v, top, gradients)
        distance = (v - target).abs().sum(dim=1, keepdim=True)
        share = (self.epsilon / (distance + 1e-7)).clamp(max=1.0)
        moved = ((1.0 - share) * v + share * target).to(torch.float32)
        return replace(answers, probabilities=break_ties(moved, top) if self.keeps_top1 else moved)

    def options(self) -> dict[str, Any]:
        """``epsilon``, ``surrogate``, ``oracle`` and ``jacobian``."""
        return {**super().options(), "oracle": self.oracle}


def furthest_class(v: Tensor, gradients: Gradients) -> Tensor:
    """The one-hot answer ``(B, K)`` whose gradient turns most from that of v ``(B, K)``."""
    pulled = gradients.times(v)
    scores = _turn(pulled, gradients.norms, (v * pulled).sum(dim=1, keepdim=True))
    return torch.nn.functional.one_hot(top1(scores), v.shape[1]).to(v.dtype)


def furthest_group(v: Tensor, top: Tensor, gradients: Gradients) -> Tensor:
    """The best even spread over a group with ``top``, all ``2 ** (K - 1)`` groups tried.

    From v ``(B, K)`` and its top-1 ``(B,)`` to a target ``(B, K)``.
    """
    classes = v.shape[1]
    pulled = gradients.times(v)
    numbers = torch.arange(2**classes, device=v.device)
    groups = (numbers[:, None] >> torch.arange(classes, device=v.device)) & 1
    # Half of the groups hold the top-1 of a row: the other half is forbidden, not skipped,
    # so that every row costs the same.
    held = groups.T[top].bool()
    spread = groups.to(v.dtype) + LEAD * torch.nn.functional.one_hot(top, classes)[:, None]
    spread = spread / spread.sum(dim=2, keepdim=True)
    lengths = (spread * gradients.times(spread)).sum(dim=2)
    overlaps = (spread * pulled[:, None]).sum(dim=2)
    scores = _turn(overlaps, lengths, (v * pulled).sum(dim=1, keepdim=True))
    best = top1(scores.masked_fill(~held, -torch.inf))
    return spread.gather(1, best[:, None, None].expand(-1, 1, classes))[:, 0]


def grown_group(v: Tensor, top: Tensor, gradients: Gradients) -> Tensor:
    """A group that grows from ``top``, each time by the best class; the best seen on the way.

    As the authors do it for more than 10 classes: growing ends after ``TRIALS`` groups were
    tried, so with many classes only small groups are reached. From v ``(B, K)`` and its top-1
    ``(B,)`` to a target ``(B, K)``.
    """
    classes = v.shape[1]
    pulled = gradients.times(v)
    base = (v * pulled).sum(dim=1, keepdim=True)
    # Everything about a group is kept un-normalised: its answer is weights / weights.sum().
    weights = (1.0 + LEAD) * torch.nn.functional.one_hot(top, classes).to(v.dtype)
    best, best_score = weights, torch.full_like(base, -torch.inf)
    tried = 0
    for size in range(2, classes + 1):
        if tried >= TRIALS:
            break
        tried += classes - size + 1
        mass = size + LEAD
        through = gradients.times(weights)
        length = (weights * through).sum(dim=1, keepdim=True) + 2.0 * through + gradients.norms
        overlap = (weights * pulled).sum(dim=1, keepdim=True) + pulled
        scores = _turn(overlap / mass, length / mass**2, base)
        scores = scores.masked_fill(weights > 0, -torch.inf)
        added = top1(scores)
        weights = weights + torch.nn.functional.one_hot(added, classes)
        score = scores.gather(1, added[:, None])
        best = torch.where(score > best_score, weights, best)
        best_score = torch.maximum(score, best_score)
    return best / best.sum(dim=1, keepdim=True)


def least_likely_group(v: Tensor, top: Tensor, gradients: Gradients) -> Tensor:
    """The best even spread over ``top`` and the n least likely classes, over all n.

    Exact for the uniform surrogate: there the length of a group's gradient depends on its size
    alone, so the best group of a size is the one of which v says least. From v ``(B, K)`` and its
    top-1 ``(B,)`` to a target ``(B, K)``.
    """
    classes = v.shape[1]
    pulled = gradients.times(v)
    leader = torch.nn.functional.one_hot(top, classes).to(v.dtype)
    order = (v - 2.0 * leader).sort(dim=1, stable=True).indices  # the top-1 first
    size = torch.arange(1, classes + 1, device=v.device, dtype=v.dtype)
    mass = size + LEAD
    first = pulled.gather(1, top[:, None])
    overlap = (pulled.gather(1, order).cumsum(dim=1) + LEAD * first) / mass
    # |y|^2 - 1 / K, expanded: of the whole set only LEAD is left, which a difference would lose.
    rest = classes - size
    length = (size * rest + 2.0 * LEAD * rest + LEAD**2 * (classes - 1)) / (classes * mass**2)
    scores = _turn(overlap, length.expand_as(overlap), (v * pulled).sum(dim=1, keepdim=True))
    count = top1(scores)[:, None]
    rank = torch.arange(classes, device=v.device).expand_as(order)
    group = torch.zeros_like(v).scatter(1, order, (rank <= count).to(v.dtype)) + LEAD * leader
    return group / group.sum(dim=1, keepdim=True)


def _turn(overlap: Tensor, length: Tensor, base: Tensor) -> Tensor:
    """Minus the cosine between gradients, on a grid; 0 where one of them vanishes.

    Args:
        overlap: ``y^T G G^T v`` of each candidate y.
        length: ``y^T G G^T y``.
        base: ``v^T G G^T v``, ``(B, 1)``.
    """
    scale = (length.clamp(min=0.0) * base.clamp(min=0.0)).sqrt()
    cosine = torch.where(scale > 1e-12, overlap / scale.clamp(min=1e-12), 0.0)
    return -(cosine * DIGITS).round() / DIGITS

"""Reverse sigmoid: confident answers are bent so that their softness misleads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from defenses.contract import Answers, Defense, Material, Queries, Stage
from defenses.errors import OptionError
from defenses.ties import break_ties
from models.simplex import one_hot, top1

__all__ = ["ReverseSigmoid"]

EDGE = 1e-9
"""Probabilities are held this far from 0 and 1 before their logit is taken (in float64)."""

MARGIN = 0.95
"""Share of the beta at which a row's top-1 would tie that the row may use."""

FLOOR = 1e-3
"""A row that could bear less than this share of beta is answered label-only."""


class ReverseSigmoid(Defense):
    """Adds a reversed sigmoid of each probability's logit, then renormalises.

    ``v'_k = v_k - beta (sigmoid(gamma logit(v_k)) - 1/2)``, clipped to [0, 1], over its sum:
    "Defending Against Neural Network Model Stealing Attacks Using Deceptive Perturbations" (Lee
    et al., SPW 2019).

    The paper's form can change the top-1, more so the more classes there are. Here a row's beta is
    lowered to what its top-1 bears: before clipping, the lead of class t over class j is
    ``(v_t - v_j) - beta (s_t - s_j)``, linear in beta, so the beta at which t is caught up with
    is the least ``(v_t - v_j) / (s_t - s_j)``; a row uses at most 95 % of it, so that nothing
    jumps where the guard sets in. A row that could bear next to nothing is answered label-only,
    never as it was.

    Every probability near 0 is raised by almost beta / 2, so the same beta weighs more the more
    classes there are. The default is ``min(1, 2 / K)``, the 0.008 that was published for 256
    classes carried over to K, which moves a confident answer by an L1 distance of about 1. With
    gamma = 1 the map is affine, ``(1 - beta) v + beta / 2`` before renormalising: legal, and
    undone by arithmetic.

    Args:
        beta: strength, above 0 and at most 2.
        gamma: slope, above 0 and at most 1.

    Raises:
        OptionError: an option is out of range.
    """

    kind: ClassVar[str] = "reverse-sigmoid"
    stage: ClassVar[Stage] = Stage.PERTURB

    def __init__(self, *, beta: float, gamma: float = 0.2) -> None:
        if not 0.0 < beta <= 2.0:
            raise OptionError("beta", f"must be above 0 and at most 2, not {beta}")
        if not 0.0 < gamma <= 1.0:
            raise OptionError("gamma", f"must be above 0 and at most 1, not {gamma}")
        self.beta = beta
        self.gamma = gamma

    def apply(self, queries: Queries, answers: Answers) -> Answers:
        """Rows ``(B, K)`` with the top-1 that they had."""
        del queries
        given = answers.probabilities
        top = top1(given)
        v = given.to(torch.float64)
        bent = torch.sigmoid(self.gamma * torch.logit(v, eps=EDGE))
        bearable = _bearable(v, bent, top)
        beta = (MARGIN * bearable).clamp(max=self.beta)
        moved = (v - beta * (bent - 0.5)).clamp(0.0, 1.0)
        moved = (moved / moved.sum(dim=1, keepdim=True)).to(torch.float32)
        hopeless = beta < FLOOR * self.beta
        kept = torch.where(hopeless, one_hot(top, given.shape[1]), break_ties(moved, top))
        return replace(answers, probabilities=kept)

    def options(self) -> dict[str, Any]:
        """``beta`` and ``gamma``."""
        return {"beta": self.beta, "gamma": self.gamma}

    @classmethod
    def resolve(cls, options: Mapping[str, Any], material: Material) -> Mapping[str, Any]:
        """Fill in the beta that suits the number of classes."""
        return {"beta": min(1.0, 2.0 / material.card.classes), **options}


def _bearable(v: Tensor, bent: Tensor, top: Tensor) -> Tensor:
    """The beta ``(B, 1)`` at which another class would catch up with ``top``; inf if none does."""
    column = top[:, None]
    lead = v.gather(1, column) - v
    gain = bent.gather(1, column) - bent
    # Classes level with the top stay level, whatever beta is.
    ratios = torch.where(gain > 0, lead / gain, torch.inf)
    return ratios.min(dim=1, keepdim=True).values

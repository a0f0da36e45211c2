"""ModelGuard-W: the least informative answer that a budget and the label allow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch

from defenses.budget import checked_budget
from defenses.contract import Answers, Defense, Queries, Stage
from defenses.label_bound import redirected_keeping_label
from defenses.ties import break_ties
from models.simplex import top1

__all__ = ["ModelGuardW"]

FLOOR = 1e-6
"""Added to a probability before its logarithm is taken."""

MARGIN = 1e-4
"""How far ahead of every other class the label stays."""


class ModelGuardW(Defense):
    """Moves mass from what the victim said to what it did not say, and keeps the label.

    ``min sum_k v'_k log(v_k + 1e-6)`` over the answers v' of the simplex with
    ``|v' - v|_1 <= epsilon`` and ``v'_t >= v'_k + 1e-4`` for the top-1 t and every other k:
    "ModelGuard: Information-Theoretic Defense Against Model Extraction Attacks" (Tang et al.,
    USENIX Security 2024), the variant W. The authors call a linear-programming solver per query;
    here a batch is solved at once (see ``redirected_keeping_label``).

    A label that leads by less than the margin leads by no less than it did: there the authors'
    problem may have no solution.

    Args:
        epsilon: the budget, an L1 distance in [0, 2]; 1.0 in the paper.

    Raises:
        OptionError: it is out of range.
    """

    kind: ClassVar[str] = "modelguard-w"
    stage: ClassVar[Stage] = Stage.PERTURB

    def __init__(self, *, epsilon: float) -> None:
        self.epsilon = checked_budget(epsilon)

    def apply(self, queries: Queries, answers: Answers) -> Answers:
        """Rows ``(B, K)`` with the top-1 that they had, at an L1 distance of at most epsilon."""
        del queries
        given = answers.probabilities
        if given.shape[0] == 0:
            return answers
        top, v = top1(given), given.to(torch.float64)
        v = v / v.sum(dim=1, keepdim=True)
        moved = redirected_keeping_label(
            v, torch.log(v + FLOOR), self.epsilon, top=top, margin=MARGIN
        )
        return replace(answers, probabilities=break_ties(moved.to(torch.float32), top))

    def options(self) -> dict[str, Any]:
        """``epsilon``."""
        return {"epsilon": self.epsilon}

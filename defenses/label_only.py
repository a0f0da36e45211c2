"""Label only: nothing leaves but the class."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from defenses.contract import Answers, Defense, Queries, Stage
from models.simplex import one_hot, top1

__all__ = ["LabelOnly"]


class LabelOnly(Defense):
    """A one-hot answer at the top-1.

    The baseline that every other defense which keeps the top-1 is to be held against: an
    attacker can always throw a probability away and train on labels.
    """

    kind: ClassVar[str] = "label-only"
    stage: ClassVar[Stage] = Stage.TRUNCATE

    def apply(self, queries: Queries, answers: Answers) -> Answers:
        """One-hot rows ``(B, K)``."""
        del queries
        given = answers.probabilities
        return replace(answers, probabilities=one_hot(top1(given), given.shape[1]))

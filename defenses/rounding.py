"""Rounding: probabilities leave with d decimals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from defenses.contract import Answers, Defense, Queries, Stage
from defenses.errors import OptionError
from defenses.ties import break_ties
from models.simplex import round_to_grid, top1

__all__ = ["Rounding"]


class Rounding(Defense):
    """Multiples of 10^-d that sum to 1, by the rule of the largest remainder.

    Ties that rounding creates at the top are broken toward the top-1 that was given, by moving
    one unit. With d = 0 this is label only.

    Args:
        decimals: d, 0 to 6.

    Raises:
        OptionError: decimals is out of range.
    """

    kind: ClassVar[str] = "rounding"
    stage: ClassVar[Stage] = Stage.TRUNCATE

    def __init__(self, *, decimals: int) -> None:
        if not 0 <= decimals <= 6:
            raise OptionError("decimals", f"must be between 0 and 6, not {decimals}")
        self.decimals = decimals

    def apply(self, queries: Queries, answers: Answers) -> Answers:
        """Rows ``(B, K)`` of multiples of 10^-d."""
        del queries
        given = answers.probabilities
        steps = 10**self.decimals
        kept = break_ties(round_to_grid(given, steps), top1(given), steps=steps)
        return replace(answers, probabilities=kept)

    def options(self) -> dict[str, Any]:
        """``decimals``."""
        return {"decimals": self.decimals}

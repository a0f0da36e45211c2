"""Stingy sparsification: a share of the classes leaves, the others are zero."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from defenses.contract import Answers, Defense, Queries, Stage
from defenses.errors import OptionError
from defenses.top_k import keep_largest

__all__ = ["Stingy"]


class Stingy(Defense):
    """The n = max(1, round(r K)) largest probabilities, renormalised.

    The sparse logits of "Stingy Teacher: Sparse Logits Suffice to Fail Knowledge Distillation"
    (Ma et al., 2022) as a service: a logit of minus infinity is a probability of zero. The
    authors' code uses r = 0.2 for 10 classes and r = 0.1 for 100 and 200.

    Args:
        ratio: r, the share of classes that leaves, above 0 and at most 1.

    Raises:
        OptionError: the ratio is out of range.
    """

    kind: ClassVar[str] = "stingy"
    stage: ClassVar[Stage] = Stage.TRUNCATE

    def __init__(self, *, ratio: float = 0.2) -> None:
        if not 0.0 < ratio <= 1.0:
            raise OptionError("ratio", f"must be above 0 and at most 1, not {ratio}")
        self.ratio = ratio

    def apply(self, queries: Queries, answers: Answers) -> Answers:
        """Rows ``(B, K)`` with at most n entries above zero."""
        del queries
        given = answers.probabilities
        # Rounded, not truncated: 0.29 * 100 is 28.999... in floating point.
        count = max(1, round(self.ratio * given.shape[1]))
        return replace(answers, probabilities=keep_largest(given, count))

    def options(self) -> dict[str, Any]:
        """``ratio``."""
        return {"ratio": self.ratio}

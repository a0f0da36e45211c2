"""Top-k: the k largest probabilities leave, the others are zero."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from defenses.contract import Answers, Defense, Queries, Stage
from defenses.errors import OptionError
from defenses.ties import break_ties
from models.simplex import largest, top1

__all__ = ["TopK", "keep_largest"]


def keep_largest(probabilities: Tensor, count: int) -> Tensor:
    """Each row's ``count`` largest entries over their sum; exact zeros elsewhere.

    Args:
        probabilities: ``(B, K)`` float32 on the simplex.
        count: entries to keep, 1 to K; of equal entries the lower index is kept.

    Returns:
        ``(B, K)`` float32 on the simplex, with the same top-1.
    """
    kept = torch.where(largest(probabilities, count), probabilities, 0.0)
    total = kept.sum(dim=1, keepdim=True, dtype=torch.float64)
    # A division can round two unequal entries to the same float.
    return break_ties((kept / total).to(torch.float32), top1(probabilities))


class TopK(Defense):
    """The k largest probabilities, renormalised.

    Renormalising differs from the common wrapper that leaves a row summing to less than one: a
    caller always gets a distribution, and the mass that was cut off is not told.

    Args:
        k: how many classes leave, 1 to the number of classes.

    Raises:
        OptionError: k is below 1.
    """

    kind: ClassVar[str] = "top-k"
    stage: ClassVar[Stage] = Stage.TRUNCATE

    def __init__(self, *, k: int) -> None:
        if k < 1:
            raise OptionError("k", f"must be at least 1, not {k}")
        self.k = k

    def check(self, classes: int) -> None:
        """Refuse a k above the number of classes.

        Raises:
            OptionError: naming k.
        """
        if self.k > classes:
            raise OptionError(
                "k", f"must be at most {classes}, the number of classes, not {self.k}"
            )

    def apply(self, queries: Queries, answers: Answers) -> Answers:
        """Rows ``(B, K)`` with at most k entries above zero."""
        del queries
        return replace(answers, probabilities=keep_largest(answers.probabilities, self.k))

    def options(self) -> dict[str, Any]:
        """``k``."""
        return {"k": self.k}

"""The budget of a perturbation: how far an answer may move, in L1 distance."""

from __future__ import annotations

from defenses.errors import OptionError

__all__ = ["checked_budget"]


def checked_budget(epsilon: float) -> float:
    """``epsilon``, if two points of the simplex can be that far apart.

    Raises:
        OptionError: it is not between 0 (nothing moves) and 2 (anything goes).
    """
    if not 0.0 <= epsilon <= 2.0:
        raise OptionError("epsilon", f"must be an L1 distance between 0 and 2, not {epsilon}")
    return epsilon

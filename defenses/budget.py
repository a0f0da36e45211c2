"""The budget of a perturbation: how far an answer may move, in L1 distance."""

from __future__ import annotations

from defenses.errors import OptionError

__all__ = ["SLACK", "checked_budget"]

SLACK = 5e-7
"""Added to a budget when a distance is compared with it. Distances are sums of steps of 1e-5, which
float32 writes down with an error below this, so that a distance of exactly the budget is within."""


def checked_budget(epsilon: float) -> float:
    """``epsilon``, if two points of the simplex can be that far apart.

    Raises:
        OptionError: it is not between 0 (nothing moves) and 2 (anything goes).
    """
    if not 0.0 <= epsilon <= 2.0:
        raise OptionError("epsilon", f"must be an L1 distance between 0 and 2, not {epsilon}")
    return epsilon

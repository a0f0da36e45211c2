"""The order in which links may stand, and what each refused order would disarm."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from defenses.contract import Defense, Stage
from defenses.errors import OrderError

__all__ = ["check_order"]

HOLES: dict[tuple[Stage, Stage], str] = {
    (Stage.REPLACE, Stage.REPLACE): (
        "both decide from what the victim said, so what {first} did would be forgotten"
    ),
    (Stage.PERTURB, Stage.REPLACE): (
        "{second} decides from what the victim said, so what {first} perturbed would be forgotten"
    ),
    (Stage.TRUNCATE, Stage.REPLACE): (
        "{second} decides from what the victim said, so what {first} cut off would leave after all"
    ),
    (Stage.TRUNCATE, Stage.PERTURB): (
        "{first} cuts off what {second} needs to see, and {second} would fill in again "
        "what {first} cut off"
    ),
}
"""What goes wrong when a link of the second stage follows one of the first."""


def check_order(links: Sequence[Defense]) -> None:
    """Refuse a chain in which one link disarms another.

    ``REPLACE`` comes first and at most once, then ``PERTURB``, then ``TRUNCATE``. If any two
    links are in a refused order then so are two neighbours.

    Raises:
        OrderError: naming both links and what would be lost.
    """
    for position, (first, second) in enumerate(pairwise(links)):
        hole = HOLES.get((first.stage, second.stage))
        if hole is None:
            continue
        reason = hole.format(first=first.kind, second=second.kind)
        remedy = (
            "keep one of them"
            if first.stage == second.stage
            else f"put {second.kind} before {first.kind}"
        )
        raise OrderError(
            f"defenses[{position + 1}]: {second.kind} must not follow {first.kind} "
            f"(defenses[{position}]): {reason}; {remedy}"
        )

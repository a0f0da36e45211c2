"""What a thief gets against what an honest caller pays, at one budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from intaglio.leakage.fields import usual_budget
from intaglio.leakage.strongest import Line

__all__ = ["Panel", "Point", "panels_of", "pareto"]

Point = tuple[str, float, float]
"""A name, and two figures of which less is better."""


@dataclass(frozen=True, slots=True)
class Panel:
    """Defenses as points: what they cost, and their strongest clone's accuracy in percent.

    Attributes:
        points: all of them.
        front: those that no other is as good as in both and better in one, among those that were
            attacked with ``budget`` queries: one that was asked less leaked less for that reason.
        what: the cost.
        across: it and its unit, for the axis.
        budget: of the clones; less where a name says so.
    """

    points: tuple[Point, ...]
    front: frozenset[str]
    what: str
    across: str
    budget: int


def panels_of(lines: Sequence[Line]) -> tuple[Panel, ...]:
    """Against accuracy, and against time; without those of which nothing is known.

    The budget is the column of the table that most defenses got to and no further. A name with an
    asterisk has attacks that were not tried, which may get more out of it.
    """
    columns = sorted({column for line in lines for column in line.strongest})
    reached = [[one for one in columns if one <= line.reach][-1:] for line in lines]
    budget = usual_budget(reached) or max(columns, default=0)
    costs = {
        "benign cost": (
            "points of accuracy that honest callers lose",
            [None if line.benign_cost is None else 100 * line.benign_cost for line in lines],
        ),
        "latency": (
            "median latency of an honest caller, ms",
            [line.latency_p50_ms for line in lines],
        ),
    }
    found = []
    for what, (across, values) in costs.items():
        points, equal = [], []
        for line, value in zip(lines, values, strict=True):
            strongest = line.strongest.get(budget)
            if strongest is None or value is None:
                continue
            asked = line.reached.get(budget, line.reach)
            less = asked < budget
            name = line.defense + ("*" if line.untried else "")
            point = (
                f"{name} ({asked:,} queries)" if less else name,
                value,
                100 * strongest.accuracy,
            )
            points.append(point)
            if not less:
                equal.append(point)
        if points:
            found.append(Panel(tuple(points), pareto(equal), what, across, budget))
    return tuple(found)


def pareto(points: Sequence[Point]) -> frozenset[str]:
    """Names of those that no other is as good as in both figures and better in one."""
    return frozenset(
        name
        for name, x, y in points
        if not any(a <= x and b <= y and (a < x or b < y) for _, a, b in points)
    )

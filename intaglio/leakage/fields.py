"""Clone accuracy of every defense under every attack, each attack at its usual budgets."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from attack_client.report.schema import Labels, Row
from intaglio.leakage.strongest import Status

__all__ = ["Column", "Field", "columns_of", "field_of", "usual_budget", "usual_budgets"]


@dataclass(frozen=True, slots=True)
class Column:
    """An attack as all defenses are compared under it.

    Attributes:
        attack: name in the table.
        labels: what clones learn from.
        budget: one at which half of the defenses were measured, or most; None where none was.
        asked: defenses that the matrix has it run on.
    """

    attack: str
    labels: Labels
    budget: int | None
    asked: frozenset[str]

    @property
    def title(self) -> str:
        """For the head of the column."""
        budget = "" if self.budget is None else f", {self.budget:,}"
        return f"{self.attack}, {self.labels}{budget}"


@dataclass(frozen=True, slots=True)
class Field:
    """What one attack got out of one defense.

    Attributes:
        accuracy: mean over seeds; of several clones of an attack, the best.
        usual: whether it is at the budget of its column.
    """

    accuracy: float
    usual: bool

    @property
    def text(self) -> str:
        """In percent, marked if it cannot be compared with those above and below it."""
        return f"{100 * self.accuracy:.1f}" + ("" if self.usual else "*")


def usual_budget(budgets: Sequence[Collection[int]]) -> int | None:
    """The budget that occurs in most of ``budgets``; of equals the larger."""
    counts = Counter(budget for own in budgets for budget in set(own))
    return max(counts, key=lambda budget: (counts[budget], budget), default=None)


def usual_budgets(budgets: Sequence[Collection[int]]) -> tuple[int, ...]:
    """Those that occur in half of ``budgets`` or more, from the least; or else the usual one."""
    counts = Counter(budget for own in budgets for budget in set(own))
    common = tuple(sorted(budget for budget, n in counts.items() if 2 * n >= len(budgets)))
    usual = usual_budget(budgets)
    return common or (() if usual is None else (usual,))


def columns_of(rows: Sequence[Row], statuses: Sequence[Status]) -> tuple[Column, ...]:
    """Every attack with its labels and usual budgets, in the order of ``statuses``."""
    found = []
    for attack, labels in dict.fromkeys((status.attack, status.labels) for status in statuses):
        asked = [s.defense for s in statuses if (s.attack, s.labels) == (attack, labels)]
        asked = list(dict.fromkeys(asked))
        budgets = [{row.budget for row in _own(rows, name, attack, labels)} for name in asked]
        for budget in usual_budgets(budgets) or (None,):
            found.append(Column(attack, labels, budget, frozenset(asked)))
    return tuple(found)


def field_of(rows: Sequence[Row], defense: str, column: Column) -> Field | None:
    """At the column's budget, or at the largest other one; None where nothing was measured."""
    own = _own(rows, defense, column.attack, column.labels)
    budgets = {row.budget for row in own}
    if not budgets:
        return None
    budget = column.budget if column.budget in budgets else max(budgets)
    best: dict[int, float] = {}
    for row in own:
        if row.budget == budget:
            best[row.seed] = max(best.get(row.seed, 0.0), row.clone_accuracy)
    return Field(statistics.fmean(best.values()), usual=budget == column.budget)


def _own(rows: Sequence[Row], defense: str, attack: str, labels: str) -> list[Row]:
    return [
        row
        for row in rows
        if row.defense == defense
        and (row.attack == attack or row.attack.startswith(f"{attack}: "))
        and row.labels == labels
        and row.queries  # a student of the labels alone took nothing from anybody
    ]

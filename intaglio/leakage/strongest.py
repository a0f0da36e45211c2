"""The table that matters: for each defense and budget, the attack that got most out of it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from attack_client.report.schema import Labels, Row

__all__ = ["Line", "Rival", "Status", "Strongest", "lines_of", "strongest_of"]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Status(_Record):
    """Whether a cell was had, and if not, why.

    Attributes:
        defense: name in the table.
        attack: name in the table.
        labels: what the clone learns from.
        budget: queries allowed.
        seed: of everything.
        state: ``done``; ``failed``, tried and not had; ``missing``, not tried yet.
        reason: why there is no result.
        seconds: that a finished one took.
    """

    defense: str
    attack: str
    labels: Labels
    budget: int
    seed: int
    state: Literal["done", "failed", "missing"]
    reason: str | None = None
    seconds: float | None = None


class Rival(_Record):
    """An attack that did better than the strongest one on the fewer seeds that it was tried on.

    Attributes:
        attack: that made them.
        labels: what they learnt from.
        accuracy: mean over the seeds that both have; over all of its own where there is none.
        ahead: by how much the other's mean over the same seeds is less.
        seeds: how many both have.
    """

    attack: str
    labels: Labels
    accuracy: float
    ahead: float
    seeds: int


class Strongest(_Record):
    """The most accurate clones of one defense that a budget buys.

    Attributes:
        budget: queries that they took, at most those of the column.
        attack: that made them.
        labels: what they learnt from.
        accuracy: mean over seeds.
        low: worst seed.
        high: best seed.
        relative: mean over seeds of clone over plain victim; None where that is not known.
        seeds: how many.
        rival: what may turn out to be stronger once it is tried on the other seeds too.
    """

    budget: int
    attack: str
    labels: Labels
    accuracy: float
    low: float
    high: float
    relative: float | None
    seeds: int
    rival: Rival | None = None


class Line(_Record):
    """One defense: what it costs an honest caller, and what it leaves a thief.

    Attributes:
        defense: name in the table.
        benign_accuracy: mean over seeds of what honest callers are served.
        benign_cost: accuracy lost against the plain model.
        benign_l1: mean L1 distance of what is served to what the plain model says.
        latency_p50_ms: median over seeds of the medians.
        latency_p99_ms: median over seeds of the 99th percentiles.
        strongest: by budget; None where no cell of that budget, or a smaller one, is done.
        reach: the most queries of any of its finished cells.
        reached: the same by budget, of those that cost no more than it; 0 where there is none.
        untried: attacks, each with one kind of labels, of which no cell at its largest budget
            is done.
        done: cells that were had.
        cells: cells that there are.
    """

    defense: str
    benign_accuracy: float | None
    benign_cost: float | None
    benign_l1: float | None
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    strongest: dict[int, Strongest | None]
    reach: int
    reached: dict[int, int] = Field(default_factory=dict)
    untried: int
    done: int
    cells: int

    @property
    def largest(self) -> Strongest | None:
        """Under the largest budget for which anything is known."""
        known = [found for found in self.strongest.values() if found is not None]
        return known[-1] if known else None


Group = tuple[tuple[str, Labels, int], list[Row]]
"""An attack with its labels and its budget, and its clones."""


def strongest_of(rows: Iterable[Row], budget: int) -> Strongest | None:
    """Of clones of one defense, those of the attack with the highest mean accuracy.

    A thief who may ask ``budget`` queries may also ask fewer. The maximum is over attacks and
    labels, and each of them is a mean over seeds: the best seed of a weak attack does not win. One
    that was tried on fewer seeds must also beat the other on those; if it does that alone, it is
    the other's rival, and so is a better one that shares no seed with it. A clone that asked
    nothing (distillation's student of true labels) is no attack on anybody.
    """
    groups: dict[tuple[str, Labels, int], list[Row]] = {}
    for row in rows:
        if row.budget <= budget and row.queries:
            groups.setdefault((row.attack, row.labels, row.budget), []).append(row)
    if not groups:
        return None
    # Of equals the cheaper one: that is the sharper statement.
    ranked = sorted(
        groups.items(),
        key=lambda group: (-len(_seeds(group)), -_mean_accuracy(group[1]), group[0][2]),
    )
    best = ranked[0]
    for group in ranked[1:]:
        both = _seeds(group) & _seeds(best)
        ahead = _mean_accuracy(group[1]) > _mean_accuracy(best[1]) and _ahead(group, best) > 0.0
        if both and ahead:
            best = group
    rivals = [_rival(group, best) for group in ranked]
    (attack, labels, spent), clones = best
    accuracies = [row.clone_accuracy for row in clones]
    return Strongest(
        budget=spent,
        attack=attack,
        labels=labels,
        accuracy=statistics.fmean(accuracies),
        low=min(accuracies),
        high=max(accuracies),
        relative=_mean(clones, lambda row: row.relative_accuracy),
        seeds=len(_seeds(best)),
        rival=max(
            (rival for rival in rivals if rival.ahead > 0.0),
            key=lambda rival: rival.ahead,
            default=None,
        ),
    )


def _seeds(group: Group) -> frozenset[int]:
    return frozenset(row.seed for row in group[1])


def _shared_means(group: Group, other: Group) -> tuple[float, float]:
    """Mean accuracies over the seeds that both have; over all that each has where there is none."""
    shared = _seeds(group) & _seeds(other) or _seeds(group) | _seeds(other)
    pair = [[row for row in rows if row.seed in shared] for _, rows in (group, other)]
    return _mean_accuracy(pair[0]), _mean_accuracy(pair[1])


def _ahead(group: Group, other: Group) -> float:
    mine, theirs = _shared_means(group, other)
    return mine - theirs


def _rival(group: Group, best: Group) -> Rival:
    (attack, labels, _), _ = group
    mine, theirs = _shared_means(group, best)
    return Rival(
        attack=attack,
        labels=labels,
        accuracy=mine,
        ahead=mine - theirs,
        seeds=len(_seeds(group) & _seeds(best)),
    )


def lines_of(
    rows: Sequence[Row], statuses: Sequence[Status], budgets: Sequence[int]
) -> tuple[Line, ...]:
    """A line per defense, in the order of ``statuses``.

    Args:
        rows: of finished cells; ``defense`` is the name in the table.
        statuses: of all cells.
        budgets: columns.
    """
    by_defense: Mapping[str, list[Row]] = {status.defense: [] for status in statuses}
    for row in rows:
        by_defense[str(row.defense)].append(row)
    return tuple(
        Line(
            defense=defense,
            benign_accuracy=_mean(own, lambda row: row.benign_accuracy),
            benign_cost=_mean(own, lambda row: row.benign_cost),
            benign_l1=_mean(own, lambda row: row.benign_l1),
            latency_p50_ms=_median(own, lambda row: row.latency_p50_ms),
            latency_p99_ms=_median(own, lambda row: row.latency_p99_ms),
            strongest={budget: strongest_of(own, budget) for budget in sorted(set(budgets))},
            reach=max((row.budget for row in own), default=0),
            reached={budget: _most(own, budget) for budget in sorted(set(budgets))},
            untried=_untried([s for s in statuses if s.defense == defense]),
            done=sum(s.state == "done" for s in statuses if s.defense == defense),
            cells=sum(s.defense == defense for s in statuses),
        )
        for defense, own in by_defense.items()
    )


def _most(rows: Sequence[Row], budget: int) -> int:
    return max((row.budget for row in rows if row.budget <= budget), default=0)


def _untried(statuses: Sequence[Status]) -> int:
    largest: dict[tuple[str, str], int] = {}
    for status in statuses:
        way = status.attack, status.labels
        largest[way] = max(largest.get(way, 0), status.budget)
    done = {(s.attack, s.labels, s.budget) for s in statuses if s.state == "done"}
    return sum((*way, budget) not in done for way, budget in largest.items())


def _mean_accuracy(rows: Sequence[Row]) -> float:
    return statistics.fmean(row.clone_accuracy for row in rows)


def _by_seed(rows: Sequence[Row], figure: Callable[[Row], float | None]) -> list[float]:
    """One figure per seed: what is about the victim is the same in all its rows."""
    found = {row.seed: value for row in rows if (value := figure(row)) is not None}
    return list(found.values())


def _mean(rows: Sequence[Row], figure: Callable[[Row], float | None]) -> float | None:
    found = _by_seed(rows, figure)
    return statistics.fmean(found) if found else None


def _median(rows: Sequence[Row], figure: Callable[[Row], float | None]) -> float | None:
    found = _by_seed(rows, figure)
    return statistics.median(found) if found else None

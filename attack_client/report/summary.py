"""A report in one line per victim: what honest callers lose against what a thief gets."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from attack_client.report.schema import Row

__all__ = ["COLUMNS", "MOST_CLASSES", "Line", "milliseconds", "summarise"]

COLUMNS = (
    "defense",
    "benign cost",
    "mean L1",
    "p50/p99 ms",
    "clone soft %",
    "clone hard %",
    "relative",
    "fidelity %",
    "queries",
)
"""Headings of a summary. ``relative`` and ``fidelity`` are of the better clone."""

MOST_CLASSES = 40
"""Beyond which a table of classes is no help to anybody."""


@dataclass(frozen=True, slots=True)
class Line:
    """One victim under one attack, at the largest budget; every figure a mean over seeds.

    Attributes:
        soft: rows of the clones trained on probabilities, one per seed.
        hard: rows of the clones trained on argmax labels, one per seed.
        several: whether the victim stands under other attacks, too, and the name tells which.
    """

    soft: tuple[Row, ...]
    hard: tuple[Row, ...]
    several: bool = False

    @property
    def rows(self) -> tuple[Row, ...]:
        """All of them; what is about the victim is the same in both halves."""
        return self.soft or self.hard

    @property
    def best(self) -> tuple[Row, ...]:
        """The rows of the labels that made the more accurate clones."""
        soft, hard = (
            _mean(rows, lambda row: row.clone_accuracy) for rows in (self.soft, self.hard)
        )
        return self.hard if soft is None or (hard is not None and hard > soft) else self.soft

    @property
    def name(self) -> str:
        """The defense, or the served model where that is all one knows."""
        row = self.rows[0]
        name = row.defense or row.victim
        return f"{name}: {row.attack}" if self.several else name

    def cells(self) -> tuple[str, ...]:
        """Text under ``COLUMNS``; a dash where nothing is known."""
        fidelity = _mean(self.best, lambda row: row.fidelity)
        if fidelity is None:
            fidelity = _mean(self.best, lambda row: row.fidelity_served)
        p50 = _mean(self.rows, lambda row: row.latency_p50_ms)
        p99 = _mean(self.rows, lambda row: row.latency_p99_ms)
        cost = _mean(self.rows, lambda row: row.benign_cost)
        l1 = _mean(self.rows, lambda row: row.benign_l1)
        relative = _mean(self.best, lambda row: row.relative_accuracy)
        return (
            self.name,
            "-" if cost is None else f"{100 * cost:+.1f}",
            "-" if l1 is None else f"{l1:.3f}",
            "-" if p50 is None or p99 is None else f"{milliseconds(p50)}/{milliseconds(p99)}",
            _percent(_mean(self.soft, lambda row: row.clone_accuracy)),
            _percent(_mean(self.hard, lambda row: row.clone_accuracy)),
            "-" if relative is None else f"{relative:.2f}",
            _percent(fidelity),
            f"{self.rows[0].queries:,}",
        )


def milliseconds(value: float) -> str:
    """Three significant digits, and never a power of ten: ``3.84``, ``120``, ``1,080``."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if rounded >= 100 else f"{rounded:.3g}"


def summarise(rows: Iterable[Row]) -> tuple[Line, ...]:
    """Lines in order of first appearance; of each, the rows with the largest budget.

    Rows are of one line when they agree in everything but labels, seed, budget and what came of
    it.
    """
    groups: dict[tuple[object, ...], list[Row]] = {}
    attacks: set[str] = set()
    for row in rows:
        attacks.add(row.attack)
        key = (row.dataset, row.victim, row.pool, row.clone, row.defense, row.attack)
        groups.setdefault(key, []).append(row)
    lines = []
    for group in groups.values():
        largest = max(row.budget for row in group)
        last = [row for row in group if row.budget == largest]
        soft = tuple(row for row in last if row.labels == "soft")
        hard = tuple(row for row in last if row.labels == "hard")
        lines.append(Line(soft=soft, hard=hard, several=len(attacks) > 1))
    return tuple(lines)


def _mean(rows: Sequence[Row], figure: Callable[[Row], float | None]) -> float | None:
    """Mean of a figure over rows; None if any row does not know it, or there are none."""
    figures = [figure(row) for row in rows]
    known = [value for value in figures if value is not None]
    return statistics.fmean(known) if known and len(known) == len(figures) else None


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"

"""A report in one line per victim: what honest callers lose against what a thief gets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from attack_client.report.schema import Row

__all__ = ["COLUMNS", "Line", "summarise"]

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


@dataclass(frozen=True, slots=True)
class Line:
    """One victim under one attack, at the largest budget.

    Attributes:
        victim: any of the rows: what they have in common.
        soft: the row of the clone trained on probabilities, if there is one.
        hard: the row of the clone trained on argmax labels, if there is one.
    """

    victim: Row
    soft: Row | None
    hard: Row | None

    @property
    def best(self) -> Row:
        """The row of the more accurate clone."""
        rows = [row for row in (self.soft, self.hard) if row is not None]
        return max(rows, key=lambda row: row.clone_accuracy)

    def cells(self) -> tuple[str, ...]:
        """Text under ``COLUMNS``; a dash where nothing is known."""
        row = self.victim
        latency = (
            "-"
            if row.latency_p50_ms is None or row.latency_p99_ms is None
            else f"{row.latency_p50_ms:.3g}/{row.latency_p99_ms:.3g}"
        )
        fidelity = self.best.fidelity
        if fidelity is None:
            fidelity = self.best.fidelity_served
        return (
            row.defense if row.defense is not None else row.victim,
            _points(row.benign_cost),
            "-" if row.benign_l1 is None else f"{row.benign_l1:.3f}",
            latency,
            _percent(None if self.soft is None else self.soft.clone_accuracy),
            _percent(None if self.hard is None else self.hard.clone_accuracy),
            "-" if self.best.relative_accuracy is None else f"{self.best.relative_accuracy:.2f}",
            _percent(fidelity),
            f"{self.best.queries:,}",
        )


def summarise(rows: Iterable[Row]) -> tuple[Line, ...]:
    """Lines in order of first appearance; of each, the rows with the largest budget.

    Rows are of one line when they agree in everything but labels, budget and what came of it.
    Of several seeds the first is shown.
    """
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        key = (row.dataset, row.victim, row.pool, row.clone, row.defense, row.attack)
        groups.setdefault(key, []).append(row)
    lines = []
    for group in groups.values():
        largest = max(row.budget for row in group)
        last = [row for row in group if row.budget == largest]
        soft = next((row for row in last if row.labels == "soft"), None)
        hard = next((row for row in last if row.labels == "hard"), None)
        lines.append(Line(victim=last[0], soft=soft, hard=hard))
    return tuple(lines)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _points(cost: float | None) -> str:
    return "-" if cost is None else f"{100 * cost:+.1f}"

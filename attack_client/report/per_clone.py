"""A line per clone, in two tables: how good it became, and what it took."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attack_client.report.schema import Row

__all__ = ["MEANINGS", "Table", "duration", "figures", "honest", "took"]

Table = tuple[tuple[str, ...], list[tuple[str, ...]]]
"""Headings, and lines of as many cells."""

MEANINGS = """\
ECE is the expected calibration error of the clone, of the plain victim and of what honest callers
are served. Of the queries, unique are different images, sent is what left (again and in vain
included), paid what was asked for and not copied from an equal image, both as the victim counts
them (an answer with a map may be several), and published what the attack's published code would
have been charged for the same answers.
"""

Column = tuple[str, Callable[[Row], str]]

WHICH: tuple[Column, ...] = (
    ("defense", lambda row: row.defense or row.victim),
    ("attack", lambda row: row.attack),
    ("labels", lambda row: row.labels),
    ("budget", lambda row: f"{row.budget:,}"),
    ("seed", lambda row: str(row.seed)),
)

QUALITY: tuple[Column, ...] = (
    ("clone %", lambda row: _number(row.clone_accuracy, 100, 2)),
    ("relative", lambda row: _number(row.relative_accuracy, 1, 3)),
    ("fidelity %", lambda row: _number(row.fidelity, 100, 2)),
    ("served %", lambda row: _number(row.fidelity_served, 100, 2)),
    ("ECE clone", lambda row: _number(row.clone_ece, 1, 3)),
    ("ECE victim", lambda row: _number(row.victim_ece, 1, 3)),
    ("ECE served", lambda row: _number(row.served_ece, 1, 3)),
)

EXPENSE: tuple[Column, ...] = (
    ("queries", lambda row: f"{row.queries:,}"),
    ("unique", lambda row: f"{row.unique_queries:,}"),
    ("sent", lambda row: f"{row.sent:,}"),
    ("paid", lambda row: _count(row.paid)),
    ("published", lambda row: _count(row.published_queries)),
    ("theft", lambda row: duration(row.theft_seconds)),
    ("training", lambda row: duration(row.training_seconds)),
    ("price", lambda row: _number(row.cost, 1, 2)),
)

ONLY_IF_KNOWN = {"published", "price"}


def figures(rows: Sequence[Row]) -> Table:
    """Accuracy, fidelity and calibration of every clone."""
    return _table(QUALITY, rows)


def took(rows: Sequence[Row]) -> Table:
    """Queries, time and money of every clone."""
    return _table(EXPENSE, rows)


def duration(seconds: float | None) -> str:
    """In a unit that suits it; a dash where it is not known."""
    if seconds is None:
        return "-"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _table(columns: tuple[Column, ...], rows: Sequence[Row]) -> Table:
    shown = [
        (head, cell)
        for head, cell in (*WHICH, *columns)
        if head not in ONLY_IF_KNOWN or any(cell(row) != "-" for row in rows)
    ]
    heads = tuple(head for head, _ in shown)
    return heads, [tuple(cell(row) for _, cell in shown) for row in rows]


def _number(value: float | None, times: float, places: int) -> str:
    return "-" if value is None else f"{times * value:.{places}f}"


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def honest(rows: Sequence[Row]) -> str:
    """How much was asked besides, to know what is served; empty where nothing was."""
    asked = max((row.evaluation_queries for row in rows), default=0)
    if not asked:
        return ""
    return (
        f"Besides, {asked:,} honest queries measured what is served; none of them is counted here."
    )

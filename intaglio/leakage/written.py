"""What a matrix came to: ``report.json``, ``report.md``, ``report.html``, two pictures."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from attack_client.report.files import write_json
from attack_client.report.schema import Report, Row
from intaglio.leakage.chosen import CHOSEN_HEADS, chosen
from intaglio.leakage.gains import GAIN_HEADS, cells_of_gain, gains
from intaglio.leakage.html import to_html
from intaglio.leakage.matrix import Matrix
from intaglio.leakage.pictures import (
    HEAT_MAP,
    TRADE_OFF,
    draw_heat_map,
    draw_trade_off,
    write_picture,
)
from intaglio.leakage.served import SERVED_HEADS, served
from intaglio.leakage.strongest import Line, Status
from intaglio.leakage.tables import HEADS, LATENCIES, cells_of_line, without_latency
from intaglio.leakage.verdict import Verdict
from models.training.atomic import write_atomically

__all__ = ["Outcome", "write_outcome"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Everything that is known of a matrix.

    Attributes:
        matrix: what was to be measured.
        rows: of finished cells.
        statuses: of all cells.
        lines: of the table.
        verdicts: in words.
        command: what was run.
        environment: what it ran on.
    """

    matrix: Matrix
    rows: tuple[Row, ...]
    statuses: tuple[Status, ...]
    lines: tuple[Line, ...]
    verdicts: tuple[Verdict, ...]
    command: tuple[str, ...]
    environment: dict[str, object]

    @property
    def done(self) -> int:
        """Cells that were had."""
        return sum(status.state == "done" for status in self.statuses)

    @property
    def hours(self) -> float:
        """That the finished cells took, one after another."""
        return sum(status.seconds or 0.0 for status in self.statuses) / 3600

    def report(self) -> Report:
        """The envelope that every report has, with what a matrix adds to it."""
        leakage = {
            "matrix": self.matrix.model_dump(mode="json"),
            "strongest": [line.model_dump(mode="json") for line in self.lines],
            "verdicts": [verdict.model_dump(mode="json") for verdict in self.verdicts],
            "cells": [status.model_dump(mode="json") for status in self.statuses],
        }
        return Report.model_validate(
            {
                "command": self.command,
                "environment": self.environment,
                "rows": self.rows,
                "leakage": leakage,
            }
        )


def write_outcome(outcome: Outcome, out: Path) -> None:
    """Write all of it into ``out``; a picture that would be empty is left out."""
    report = outcome.report()
    write_json(report, out / "report.json")
    pictures = []
    if outcome.rows:
        write_picture(draw_heat_map(outcome.rows, outcome.statuses), out / HEAT_MAP)
        pictures.append(("Clone accuracy by defense and attack", HEAT_MAP))
        trade_off = draw_trade_off(outcome.lines)
        if trade_off is not None:
            write_picture(trade_off, out / TRADE_OFF)
            pictures.append(("Security against utility and latency", TRADE_OFF))
    write_atomically(out / "report.md", _markdown(outcome, pictures).encode())
    write_atomically(out / "report.html", to_html(outcome, report).encode())


def _markdown(outcome: Outcome, pictures: Sequence[tuple[str, str]]) -> str:
    matrix = outcome.matrix
    parts = [f"# Leakage matrix: {matrix.name}", ""]
    if matrix.description:
        parts += [matrix.description, ""]
    lacking_latency = without_latency(outcome.lines, matrix.latency_requests)
    parts += [
        f"Victim's task **{matrix.test}**, surrogate pool **{matrix.pool}**, clones "
        f"**{matrix.clone.architecture}**. {outcome.done} of {len(outcome.statuses)} cells are "
        f"done; they took {outcome.hours:.1f} hours of one process.",
        "",
        "## The strongest attack",
        "",
        _table(
            (*HEADS, *(f"{budget:,} queries" for budget in sorted(set(matrix.budgets)))),
            [cells_of_line(line) for line in outcome.lines],
        ),
        "",
        LATENCIES,
        "",
        *([lacking_latency, ""] if lacking_latency else []),
        *(f"- {verdict.sentence}" for verdict in outcome.verdicts),
        "",
    ]
    for title, file in pictures:
        parts += [f"![{title}]({file})", ""]
    added = [cells_of_gain(gain) for gain in gains(matrix, outcome.rows)]
    if added:
        parts += ["## What add-ons add", "", _table(GAIN_HEADS, added), ""]
    parts += ["## What each name serves", "", _table(SERVED_HEADS, list(served(matrix))), ""]
    told = list(chosen(matrix))
    if told:
        parts += ["## What attacks were told", "", _table(CHOSEN_HEADS, told), ""]
    lacking = [status for status in outcome.statuses if status.state != "done"]
    if lacking:
        parts += ["## Missing cells", "", *(f"- {_missing(status)}" for status in lacking), ""]
    parts += ["## How it was made", "", "```", shlex.join(outcome.command), "```", ""]
    known = ((name, value) for name, value in outcome.environment.items() if value is not None)
    return "\n".join([*parts, ", ".join(f"{name} {value}" for name, value in known) + ".", ""])


def _missing(status: Status) -> str:
    return (
        f"{status.defense}, {status.attack}, {status.labels}, {status.budget:,}, seed "
        f"{status.seed}: {status.reason}"
    )


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = "|".join([":--", *["--:"] * (len(heads) - 1)])
    return "\n".join(
        [f"| {' | '.join(heads)} |", f"|{rule}|", *(f"| {' | '.join(line)} |" for line in lines)]
    )

"""``report.html`` of a matrix: the table, the words, the heat map, the trade-off, every clone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attack_client.report.html import charts, every_clone, made
from attack_client.report.page import Cell, facts, page, paragraph, section, table
from attack_client.report.schema import Report
from attack_client.report.svg import dots
from intaglio.leakage.pictures import accuracy_of, colour_of, pareto
from intaglio.leakage.strongest import Line, Status
from intaglio.leakage.tables import HEADS, cells_of_line
from intaglio.leakage.verdict import YARDSTICKS, Verdict

if TYPE_CHECKING:
    from intaglio.leakage.written import Outcome

__all__ = ["to_html"]

KINDS = {
    "beats label-only": "good",
    "too close to call": "mid",
    "does not beat label-only": "bad",
    "unknown": "soft",
}


def to_html(outcome: Outcome, report: Report) -> str:
    """The page; nothing in it is fetched from anywhere."""
    matrix = outcome.matrix
    budgets = sorted(set(matrix.budgets))
    lacking = [status for status in outcome.statuses if status.state != "done"]
    parts = [
        paragraph(matrix.description) if matrix.description else "",
        paragraph(
            f"Victim's task {matrix.test}, surrogate pool {matrix.pool}, clones "
            f"{matrix.clone.architecture}.",
            "soft",
        ),
        facts(_key_figures(outcome)),
        section("What does not beat plain labels", _words(outcome.verdicts)),
        section(
            "The strongest attack on each defense",
            paragraph(
                "Clone accuracy in percent, mean over seeds (worst to best seed), over all attacks "
                "and kinds of labels; beside it what the defense costs an honest caller.",
                "soft",
            ),
            table(
                (*HEADS, *(f"{budget:,} queries" for budget in budgets)),
                [_marked(line) for line in outcome.lines],
            ),
        ),
    ]
    if outcome.rows:
        parts.append(section("Every defense under every attack", _heat_map(outcome)))
        parts.append(section("Security, utility, latency", _trade_off(outcome.lines)))
        parts.append(section("On a budget", charts(outcome.rows), folded=True))
        parts.append(section("Every clone", every_clone(outcome.rows), folded=True))
    if lacking:
        parts.append(section(f"{len(lacking)} missing cells", _missing(lacking), folded=True))
    parts.append(made(report))
    return page(f"Leakage matrix: {matrix.name}", parts)


def _key_figures(outcome: Outcome) -> list[tuple[str, str]]:
    beaten = sum(verdict.finding == "beats label-only" for verdict in outcome.verdicts)
    known = sum(verdict.finding != "unknown" for verdict in outcome.verdicts)
    return [
        (f"{outcome.done} of {len(outcome.statuses)}", "cells done"),
        (f"{outcome.hours:.1f} h", "of one process"),
        (str(len({row.seed for row in outcome.rows})), "seeds"),
        (f"{beaten} of {known}", "defenses beat label-only"),
    ]


def _words(verdicts: Sequence[Verdict]) -> str:
    order = ["does not beat label-only", "too close to call", "beats label-only", "unknown"]
    ranked = sorted(verdicts, key=lambda verdict: order.index(verdict.finding))
    lines = [paragraph(verdict.sentence, KINDS[verdict.finding]) for verdict in ranked]
    return "".join(lines) or paragraph("There is nothing but yardsticks.", "soft")


def _marked(line: Line) -> list[Cell]:
    cells: list[Cell] = list(cells_of_line(line))
    if line.defense in YARDSTICKS:
        cells[1] = (str(cells[1]), "soft")
    return cells


def _heat_map(outcome: Outcome) -> str:
    statuses = outcome.statuses
    columns = list(dict.fromkeys((status.attack, status.labels) for status in statuses))
    asked = {(status.defense, status.attack, status.labels) for status in statuses}
    rows: list[list[Cell]] = []
    for line in outcome.lines:
        cells: list[Cell] = [line.defense]
        for attack, labels in columns:
            if (line.defense, attack, labels) not in asked:
                cells.append("")
                continue
            accuracy = accuracy_of(outcome.rows, line.defense, attack, labels)
            if accuracy is None:
                cells.append(("missing", "soft"))
                continue
            background, ink = colour_of(accuracy)
            style = f"background:{background};color:{ink}"
            cells.append((f"{100 * accuracy:.1f}", style))
        rows.append(cells)
    note = "Mean clone accuracy, %, at the largest budget of each attack that is done."
    heads = ["", *(f"{attack}, {labels}" for attack, labels in columns)]
    return paragraph(note, "soft") + table(heads, rows)


def _trade_off(lines: Sequence[Line]) -> str:
    known = [(line, line.largest) for line in lines]
    cost = [
        (line.defense, 100 * line.benign_cost, 100 * strongest.accuracy)
        for line, strongest in known
        if strongest is not None and line.benign_cost is not None
    ]
    time = [
        (line.defense, line.latency_p50_ms, 100 * strongest.accuracy)
        for line, strongest in known
        if strongest is not None and line.latency_p50_ms is not None
    ]
    drawn = [
        dots(points, full=pareto(points), title=f"strongest clone against {what}", across=across)
        for points, what, across in (
            (cost, "benign cost", "points of accuracy that honest callers lose"),
            (time, "latency", "median latency of an honest caller, ms"),
        )
        if points
    ]
    note = "Full dots: no other defense is as good in both and better in one. Lower left is better."
    return f'<div class="charts">{"".join(drawn)}</div>{paragraph(note, "soft")}'


def _missing(lacking: Sequence[Status]) -> str:
    return table(
        ("defense", "attack", "labels", "budget", "seed", "reason"),
        [
            [
                status.defense,
                status.attack,
                status.labels,
                f"{status.budget:,}",
                str(status.seed),
                (status.reason or "", "wide"),
            ]
            for status in lacking
        ],
    )

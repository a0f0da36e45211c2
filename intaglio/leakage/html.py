"""``report.html`` of a matrix: the table, the words, the heat map, the trade-off, every clone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attack_client.report.html import charts, every_clone, made
from attack_client.report.page import Cell, facts, page, paragraph, section, table
from attack_client.report.schema import Report
from attack_client.report.svg import dots
from intaglio.leakage.chosen import CHOSEN_HEADS, chosen
from intaglio.leakage.fields import columns_of, field_of
from intaglio.leakage.gains import GAIN_HEADS, cells_of_gain, gains
from intaglio.leakage.pictures import colour_of
from intaglio.leakage.served import SERVED_HEADS, served
from intaglio.leakage.strongest import Line, Status
from intaglio.leakage.tables import HEADS, LATENCIES, cells_of_line, without_latency
from intaglio.leakage.trade_off import panels_of
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
                "and kinds of labels; beside it what the defense costs an honest caller. "
                + " ".join(
                    filter(
                        None,
                        [LATENCIES, without_latency(outcome.lines, matrix.latency_requests)],
                    )
                ),
                "soft",
            ),
            table(
                (*HEADS, *(f"{budget:,} queries" for budget in budgets)),
                [_marked(line) for line in outcome.lines],
            ),
        ),
        _gained(outcome),
        section(
            "What each name serves",
            table(
                SERVED_HEADS,
                [(name, (of, "wide"), (behind, "wide")) for name, of, behind in served(matrix)],
            ),
            folded=True,
        ),
    ]
    told = [(name, kind, (options, "wide")) for name, kind, options in chosen(matrix)]
    if told:
        parts.append(section("What attacks were told", table(CHOSEN_HEADS, told), folded=True))
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


def _gained(outcome: Outcome) -> str:
    found = [cells_of_gain(gain) for gain in gains(outcome.matrix, outcome.rows)]
    if not found:
        return ""
    note = (
        "The add-on that added most, beside the better clone of the same attack without it, of as "
        "many queries and the same seeds. It is the best of several: with one seed a gain of a few "
        "points may be luck."
    )
    return section("What add-ons add", paragraph(note, "soft"), table(GAIN_HEADS, found))


def _heat_map(outcome: Outcome) -> str:
    columns = columns_of(outcome.rows, outcome.statuses)
    rows: list[list[Cell]] = []
    for line in outcome.lines:
        cells: list[Cell] = [line.defense]
        for column in columns:
            field = field_of(outcome.rows, line.defense, column)
            if line.defense not in column.asked:
                cells.append("")
            elif field is None:
                cells.append(("missing", "soft"))
            else:
                background, ink = colour_of(field.accuracy)
                cells.append((field.text, f"background:{background};color:{ink}"))
        rows.append(cells)
    note = (
        "Mean clone accuracy, %, each attack at the budget in its head; an asterisk marks what was "
        "measured with another number of queries."
    )
    return paragraph(note, "soft") + table(["", *(column.title for column in columns)], rows)


def _trade_off(lines: Sequence[Line]) -> str:
    panels = panels_of(lines)
    drawn = [
        dots(
            panel.points,
            full=panel.front,
            title=f"strongest clone against {panel.what}, {panel.budget:,} queries at most",
            across=panel.across,
        )
        for panel in panels
    ]
    note = (
        "Full dots: no other defense is as good in both and better in one. Lower left is better. "
        "An asterisk marks defenses that were not attacked in every way; one that was asked less "
        "than the others is compared with none."
    )
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

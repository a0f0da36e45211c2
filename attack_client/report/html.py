"""``report.html``: a leakage report for people, on one page."""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from attack_client.report.page import code, facts, page, paragraph, section, table
from attack_client.report.per_clone import MEANINGS, duration, figures, honest, took
from attack_client.report.schema import Report, Row
from attack_client.report.summary import COLUMNS, MOST_CLASSES, Line, summarise
from attack_client.report.svg import legend, lines
from models.training.atomic import write_atomically

__all__ = ["charts", "classes", "every_clone", "made", "to_html", "write_html"]

Figure = Callable[[Row], float | None]


def write_html(report: Report, path: Path, *, title: str) -> None:
    """Write ``to_html``, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, to_html(report, title=title).encode())


def to_html(report: Report, *, title: str) -> str:
    """The page: key figures, table, curves, classes, calibration, every clone, how it was made."""
    rows = report.rows
    summary = summarise(rows)
    # A student of the true labels asked nobody, and stole nothing.
    thefts = [row for row in rows if row.queries] or rows
    best = max(thefts, key=lambda row: row.clone_accuracy)
    about = sorted({(row.dataset, row.pool, row.clone, row.attack) for row in thefts})
    parts = [
        *(
            paragraph(f"{dataset}, stolen with {attack} from {pool} into a {clone} clone.", "soft")
            for dataset, pool, clone, attack in about
        ),
        facts(_key_figures(best)),
        section(
            "What it costs an honest caller, and what it leaves a thief",
            table(COLUMNS, [line.cells() for line in summary]),
        ),
        section("On a budget", charts(rows)),
        section("Class by class", classes(summary)),
        section("Every clone", every_clone(rows)),
        made(report),
    ]
    return page(title, parts)


def _key_figures(best: Row) -> list[tuple[str, str]]:
    found = [(_percent(best.clone_accuracy), f"best clone, {best.labels} labels")]
    if best.victim_accuracy is not None:
        found.append((_percent(best.victim_accuracy), "plain victim"))
    if best.relative_accuracy is not None:
        found.append((f"{best.relative_accuracy:.3f}", "relative accuracy"))
    agreed = best.fidelity if best.fidelity is not None else best.fidelity_served
    if agreed is not None:
        found.append((_percent(agreed), "fidelity"))
    found.append((f"{best.queries:,}", "queries"))
    if best.theft_seconds is not None:
        found.append((duration(best.theft_seconds), "to ask them"))
    if best.cost is not None:
        found.append((f"{best.cost:,.2f}", "what they cost"))
    return found


def charts(rows: Sequence[Row]) -> str:
    """Clone accuracy and fidelity against queries, soft labels beside hard ones."""
    asked = [row for row in rows if row.queries]
    several = len({row.attack for row in asked}) > 1
    names = list(dict.fromkeys(_name(row, several) for row in asked))
    plain = [row.victim_accuracy for row in asked if row.victim_accuracy is not None]
    level = 100 * statistics.fmean(plain) if plain else None
    known = any(row.fidelity is not None for row in asked)
    agreed: Figure = (lambda row: row.fidelity) if known else (lambda row: row.fidelity_served)
    drawn = []
    for what, figure, across in (
        ("clone accuracy", lambda row: row.clone_accuracy, level),
        ("fidelity" if known else "fidelity to what was served", agreed, None),
    ):
        for labels in ("soft", "hard"):
            chosen = [row for row in asked if row.labels == labels]
            if chosen:
                series = _series(chosen, names, figure, several)
                title = f"{what}, {labels} labels"
                drawn.append(lines(series, title=title, across="queries", level=across))
    note = "Dashed: the plain victim's accuracy. A band reaches from the worst seed to the best."
    return f'{legend(names)}<div class="charts">{"".join(drawn)}</div>{paragraph(note, "soft")}'


def _series(
    rows: Sequence[Row], names: Sequence[str], figure: Figure, several: bool
) -> Mapping[str, list[tuple[float, float, float, float]]]:
    found: dict[str, dict[int, list[float]]] = {name: {} for name in names}
    for row in rows:
        value = figure(row)
        if value is not None:
            found[_name(row, several)].setdefault(row.queries, []).append(100 * value)
    return {
        name: [
            (queries, min(values), statistics.fmean(values), max(values))
            for queries, values in sorted(by_budget.items())
        ]
        for name, by_budget in found.items()
    }


def classes(summary: Sequence[Line]) -> str:
    """What the better clone of each line knows of each class, in percent of its images."""
    known = [(line, line.best[0]) for line in summary if line.best and line.best[0].class_accuracy]
    if not known:
        return paragraph("Not measured.", "soft")
    count = max(len(row.class_accuracy or ()) for _, row in known)
    if count > MOST_CLASSES:
        return paragraph(f"{count} classes: see class_accuracy in report.json.", "soft")
    rows: list[list[str | tuple[str, str]]] = []
    _, first = known[0]
    if first.victim_class_accuracy is not None:
        rows.append(["plain victim", *map(_shaded, first.victim_class_accuracy)])
    rows += [
        [f"{line.name}, {row.labels}", *map(_shaded, row.class_accuracy or ())]
        for line, row in known
    ]
    note = f"Share of the test images of each class answered right, %; seed {first.seed}."
    return paragraph(note, "soft") + table(["", *map(str, range(count))], rows)


def _shaded(share: float | None) -> str | tuple[str, str]:
    if share is None:
        return "-"
    return f"{100 * share:.0f}", f"background:rgba(213,94,0,{0.06 + 0.5 * share:.2f})"


def every_clone(rows: Sequence[Row]) -> str:
    """Two lines per clone: accuracy, fidelity and calibration; queries, time and money."""
    asked = honest(rows)
    return (
        table(*figures(rows))
        + paragraph(MEANINGS, "soft")
        + table(*took(rows))
        + (paragraph(asked, "soft") if asked else "")
    )


def made(report: Report) -> str:
    """The command, and what it ran on."""
    known = (f"{name} {value}" for name, value in report.environment.items() if value is not None)
    return section(
        "How it was made",
        code("\n".join(map(shlex.join, report.commands))),
        paragraph(", ".join(known) + ".", "soft"),
    )


def _name(row: Row, several: bool) -> str:
    name = row.defense or row.victim
    return f"{name}: {row.attack}" if several else name


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"

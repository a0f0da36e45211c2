"""``report.json`` and ``report.md``."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from attack_client.errors import ReportError
from attack_client.report.per_clone import MEANINGS, figures, honest, took
from attack_client.report.schema import Report, Row
from attack_client.report.summary import COLUMNS, MOST_CLASSES, Line, summarise
from models.training.atomic import write_atomically
from models.validation import first_problem

__all__ = ["read_json", "to_markdown", "write_json", "write_markdown"]

NOTES = """\
Benign cost is in points of accuracy, against the plain model; mean L1 is the distance between the
plain model's probabilities and those served, on the test set, between 0 and 2. Relative accuracy
(clone over plain victim) and fidelity (share of test images on which clone and plain victim agree;
with what was served, where the plain model is unknown) are those of the better clone. A dash means
that it cannot be known from outside.
"""


def write_json(report: Report, path: Path) -> None:
    """Write the report, whole or not at all."""
    document = report.model_dump(mode="json", by_alias=True)
    for name in ("leakage", "theft", "earlier_commands"):
        if not getattr(report, name):
            del document[name]
    text = json.dumps(document, indent=2)
    _replace(path, text + "\n")


def read_json(path: Path) -> Report:
    """Read a report.

    Raises:
        ReportError: there is none, or it is not one.
    """
    try:
        return Report.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ReportError(f"cannot read {path}: {error.strerror}") from error
    except ValidationError as error:
        raise ReportError(f"{path} is not a leakage report: {first_problem(error)}") from error


def write_markdown(report: Report, path: Path, *, picture: str | None = None) -> None:
    """Write ``to_markdown``; ``picture`` is a file name beside ``path`` to show in it."""
    _replace(path, to_markdown(report, picture=picture))


def to_markdown(report: Report, *, picture: str | None = None) -> str:
    """The summary, the curve, the classes, every row, and how it was made."""
    parts = ["# Leakage report", ""]
    thefts = [row for row in report.rows if row.queries] or report.rows
    about = {(row.dataset, row.pool, row.clone, row.attack) for row in thefts}
    for dataset, pool, clone, attack in sorted(about):
        parts.append(
            f"Victim's task **{dataset}**, stolen with **{attack}** from pool **{pool}** into a "
            f"**{clone}** clone. {_seeds(report.rows)}"
        )
    summary = summarise(report.rows)
    parts += ["", _table(COLUMNS, [line.cells() for line in summary]), "", NOTES]
    if picture is not None:
        parts += [f"![Clone accuracy and fidelity against queries]({picture})", ""]
    parts += ["## Class by class", "", _classes(summary), ""]
    parts += ["## Every clone", "", _table(*figures(report.rows)), "", MEANINGS]
    parts += [_table(*took(report.rows)), "", honest(report.rows), ""]
    parts += ["## How it was made", "", "```", *map(shlex.join, report.commands), "```", ""]
    known = ((name, value) for name, value in report.environment.items() if value is not None)
    parts += [", ".join(f"{name} {value}" for name, value in known) + ".", ""]
    return "\n".join(parts)


def _seeds(rows: tuple[Row, ...]) -> str:
    seeds = sorted({row.seed for row in rows})
    if len(seeds) == 1:
        return f"Seed {seeds[0]}."
    return f"Mean of {len(seeds)} seeds, {seeds[0]} to {seeds[-1]}."


def _classes(summary: tuple[Line, ...]) -> str:
    """What the better clone of each line knows of each class, a line per class."""
    known = [
        (line.name, line.best[0]) for line in summary if line.best and line.best[0].class_accuracy
    ]
    if not known:
        return "Not measured."
    _, first = known[0]
    columns = [(f"{name}, {row.labels}", row.class_accuracy or ()) for name, row in known]
    if first.victim_class_accuracy is not None:
        columns.insert(0, ("plain victim", first.victim_class_accuracy))
    count = max(len(shares) for _, shares in columns)
    if count > MOST_CLASSES:
        return f"{count} classes: see `class_accuracy` in `report.json`."
    lines = [
        (str(number), *(_share(shares, number) for _, shares in columns)) for number in range(count)
    ]
    note = f"Share of the test images of each class answered right, %; seed {first.seed}."
    return f"{note}\n\n{_table(('class', *(name for name, _ in columns)), lines)}"


def _share(shares: Sequence[float | None], number: int) -> str:
    share = shares[number] if number < len(shares) else None
    return "-" if share is None else f"{100 * share:.1f}"


def _table(heads: tuple[str, ...], lines: list[tuple[str, ...]]) -> str:
    rule = "|".join([":--", *["--:"] * (len(heads) - 1)])
    return "\n".join(
        [f"| {' | '.join(heads)} |", f"|{rule}|", *(f"| {' | '.join(line)} |" for line in lines)]
    )


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.encode())

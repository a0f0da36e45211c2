"""``report.json`` and ``report.md``."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from pydantic import ValidationError

from attack_client.errors import ReportError
from attack_client.report.schema import Report, Row
from attack_client.report.summary import COLUMNS, summarise
from models.training.atomic import write_atomically

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
    if report.leakage is None:
        del document["leakage"]
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
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ReportError(f"{path} is not a leakage report: {field}: {first['msg']}") from error


def write_markdown(report: Report, path: Path, *, picture: str | None = None) -> None:
    """Write ``to_markdown``; ``picture`` is a file name beside ``path`` to show in it."""
    _replace(path, to_markdown(report, picture=picture))


def to_markdown(report: Report, *, picture: str | None = None) -> str:
    """The summary, the curve, every row, and how it was made."""
    parts = ["# Leakage report", ""]
    about = {(row.dataset, row.pool, row.clone, row.attack) for row in report.rows}
    for dataset, pool, clone, attack in sorted(about):
        parts.append(
            f"Victim's task **{dataset}**, stolen with **{attack}** from pool **{pool}** into a "
            f"**{clone}** clone. {_seeds(report.rows)}"
        )
    parts += ["", _table(COLUMNS, [line.cells() for line in summarise(report.rows)]), "", NOTES]
    if picture is not None:
        parts += [f"![Clone accuracy and fidelity against queries]({picture})", ""]
    parts += ["## Every clone", "", _rows_table(report.rows), ""]
    parts += ["## How it was made", "", "```", shlex.join(report.command), "```", ""]
    known = ((name, value) for name, value in report.environment.items() if value is not None)
    parts += [", ".join(f"{name} {value}" for name, value in known) + ".", ""]
    return "\n".join(parts)


def _seeds(rows: tuple[Row, ...]) -> str:
    seeds = sorted({row.seed for row in rows})
    if len(seeds) == 1:
        return f"Seed {seeds[0]}."
    return f"Mean of {len(seeds)} seeds, {seeds[0]} to {seeds[-1]}."


def _rows_table(rows: tuple[Row, ...]) -> str:
    heads = (
        "defense",
        "labels",
        "budget",
        "seed",
        "unique",
        "sent",
        "clone accuracy",
        "relative",
        "fidelity",
        "fidelity served",
    )
    several = len({row.attack for row in rows}) > 1
    cells = [
        (
            (row.defense or row.victim) + (f": {row.attack}" if several else ""),
            row.labels,
            f"{row.budget:,}",
            str(row.seed),
            f"{row.unique_queries:,}",
            f"{row.sent:,}",
            *(
                "-" if share is None else f"{100 * share:.2f} %"
                for share in (
                    row.clone_accuracy,
                    row.relative_accuracy,
                    row.fidelity,
                    row.fidelity_served,
                )
            ),
        )
        for row in rows
    ]
    return _table(heads, cells)


def _table(heads: tuple[str, ...], lines: list[tuple[str, ...]]) -> str:
    rule = "|".join([":--", *["--:"] * (len(heads) - 1)])
    return "\n".join(
        [f"| {' | '.join(heads)} |", f"|{rule}|", *(f"| {' | '.join(line)} |" for line in lines)]
    )


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.encode())

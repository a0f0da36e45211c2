"""A leakage matrix as a section of the results page, and how it gets there.

    python -m benchmarks.leakage_page runs/leakage/mnist

takes over the report of a matrix that was run, or of the part that was: its rows for
``benchmarks/results/``, its page for ``docs/``.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from attack_client.report.schema import Row
from benchmarks.blends import blends
from benchmarks.envelope import IMAGES, RESULTS
from benchmarks.markdown import closed, folded, table
from intaglio.leakage.gains import GAIN_HEADS, cells_of_gain, gains
from intaglio.leakage.matrix import Matrix
from intaglio.leakage.served import SERVED_HEADS, served
from intaglio.leakage.strongest import Line
from intaglio.leakage.tables import HEADS, LATENCIES, cells_of_line, told

__all__ = ["findings", "leakage_parts"]

PICTURES = {
    "Clone accuracy by defense and attack": "heat-map",
    "Security against utility and latency": "trade-off",
}
"""What is drawn of a matrix, by what it shows."""

WORDS = {"unknown": "not measured enough"}
"""Findings that a reader would misread."""


def leakage_parts(document: Mapping[str, Any]) -> list[str]:
    """What a report says of the whole matrix: the strongest attacks, verdicts, what is missing.

    Args:
        document: a report with ``leakage``, see ``intaglio.leakage.written.Outcome.report``.
    """
    found = document["leakage"]
    lines = [Line.model_validate(line) for line in found["strongest"]]
    states = Counter(cell["state"] for cell in found["cells"])
    hours = sum(cell["seconds"] or 0.0 for cell in found["cells"]) / 3600
    budgets = [f"{budget:,} queries" for budget in lines[0].strongest]
    name = found["matrix"]["name"]
    shown = [cells_of_line(line) for line in lines]
    parts = [
        f"{states['done']} of {len(found['cells'])} cells are done; they took {hours:.1f} hours of "
        "one process, training of victims not counted. What is not done is missing, and nothing is "
        f"put in its place. [The whole page](leakage-{name}.html) has plots, and every cell. "
        + LATENCIES.replace("(--jobs 1)", "(`--jobs 1`)"),
        folded("The strongest attack, clone %", table((*HEADS, *budgets), shown), len(shown)),
        "\n".join(f"- {verdict['sentence']}" for verdict in found["verdicts"]),
        *_tables(Matrix.model_validate(found["matrix"]), document["rows"]),
        _settings(found),
    ]
    for title, kind in PICTURES.items():
        picture = IMAGES / f"leakage-{name}-{kind}.png"
        if picture.exists():
            parts.append(f"![{title}](images/{picture.name})")
    return parts


def _tables(matrix: Matrix, raw: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    rows = [Row.model_validate(row) for row in raw]
    added = [cells_of_gain(gain) for gain in gains(matrix, rows)]
    if added:
        title = "The add-on that added most, beside the better clone of the same attack without it"
        yield folded(title, table(GAIN_HEADS, added), len(added))
        yield "It is the best of several: with one seed a gain of a few points may be luck."
    yield from blends(matrix, rows)


def findings(document: Mapping[str, Any]) -> str:
    """A table for who has to choose: what each defense leaves, costs, and is worth."""
    found = document["leakage"]
    lines = [Line.model_validate(line) for line in found["strongest"]]
    said = {verdict["defense"]: verdict["finding"] for verdict in found["verdicts"]}
    budgets = list(lines[0].strongest)
    rows = [
        [
            line.defense,
            "-" if line.benign_cost is None else f"{100 * line.benign_cost:+.1f}",
            *(told(one, budget) for budget, one in line.strongest.items()),
            f"{line.done}/{line.cells}",
            WORDS.get(said.get(line.defense, ""), said.get(line.defense, "yardstick")),
        ]
        for line in lines
    ]
    heads = [f"clone %, {budget:,} queries" for budget in budgets]
    shown = table(["defense", "benign cost", *heads, "cells", "finding"], rows)
    return f"{shown}\n\n{_settings(found)}"


def _settings(found: Mapping[str, Any]) -> str:
    rows = list(served(Matrix.model_validate(found["matrix"])))
    return closed("What each name serves", table(SERVED_HEADS, rows))


@click.command()
@click.argument("run", type=click.Path(path_type=Path, exists=True, file_okay=False))
def main(run: Path) -> None:
    """Take over the report of RUN, the directory of a matrix."""
    document = json.loads((run / "report.json").read_text(encoding="utf-8"))
    name = document["leakage"]["matrix"]["name"]
    shutil.copyfile(run / "report.json", RESULTS / f"leakage-{name}.json")
    shutil.copyfile(run / "report.html", IMAGES.parent / f"leakage-{name}.html")
    for kind in PICTURES.values():
        if (run / f"{kind}.png").is_file():
            shutil.copyfile(run / f"{kind}.png", IMAGES / f"leakage-{name}-{kind}.png")
    Console().print(f"took over {name}; now: python -m benchmarks.results_page", highlight=False)


if __name__ == "__main__":
    main()

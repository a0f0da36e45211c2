"""Whether a finished demo shows what it is there to show.

    python -m benchmarks.check_demo runs/demo

An undefended victim must be stolen (otherwise defended rows mean nothing), and Adaptive
Misinformation must stand well below it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from attack_client.report import read_json, summarise
from attack_client.report.schema import Row

STOLEN = 0.85
"""Relative accuracy that the best soft clone of the undefended victim reaches at least."""

BELOW = 0.30
"""How far below that the best clone behind Adaptive Misinformation stays, in relative accuracy."""


def best(rows: tuple[Row, ...]) -> float:
    """The highest relative accuracy of some clones."""
    return max(row.relative_accuracy or 0.0 for row in rows)


@click.command()
@click.argument("demo", type=click.Path(path_type=Path, exists=True, file_okay=False))
def main(demo: Path) -> None:
    """Exit with 1 and a sentence if it does not."""
    lines = {line.name: line for line in summarise(read_json(demo / "report.json").rows)}
    undefended = best(lines["none"].soft)
    defended = best(lines["am"].soft + lines["am"].hard)
    click.echo(f"best relative accuracy: none {undefended:.2f} (soft), am {defended:.2f}")
    if undefended < STOLEN:
        sys.exit(f"the attack is too weak to judge a defense by: below {STOLEN}")
    if defended > undefended - BELOW:
        sys.exit(f"am is not {BELOW} below the undefended victim")


if __name__ == "__main__":
    main()

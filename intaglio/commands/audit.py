"""``intaglio audit``: who asked how much, how it looked, and what it may have yielded."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from attack_client.finite_range import FiniteRange
from intaglio.caller_names import known_names
from models.sentence import Sentence
from server.cli import assignment

if TYPE_CHECKING:
    from intaglio.audit_summary import CallerSummary, Curve

__all__ = ["audit"]

MOST_NAMED = 5
"""Lines that are not records, of one call; others are counted."""


@click.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--hours", type=FiniteRange(min=0, min_open=True), help="Only the last so many hours."
)
@click.option(
    "--unsure-below",
    type=FiniteRange(0, 1, min_open=True),
    default=0.7,
    show_default=True,
    help="Confidence of the victim below which a sample counts as out of distribution.",
)
@click.option(
    "--curves",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Report of a theft (report.json) to estimate leakage from.",
)
@click.option(
    "--defense",
    default="none",
    show_default=True,
    help="Curve of that report to use: the defense through which these callers were answered.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="The server's settings as a YAML file: its keys say what callers are called.",
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    callback=assignment,
    help="One setting, for instance callers.store=file. Repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summaries as JSON.")
def audit(
    directory: Path,
    *,
    hours: float | None,
    unsure_below: float,
    curves: Path | None,
    defense: str,
    config: Path | None,
    assignments: dict[str, Any],
    as_json: bool,
) -> None:
    """Summarise the audit log in DIRECTORY, one line per caller and model.

    Shows samples answered and distinct images among them, requests refused, the share of samples
    that look out of distribution to the victim, the lowest W of PRADA's tests and how many failed.

    Callers have names where the settings of the server (--config, INTAGLIO_ variables, --set) say
    where its keys are kept.

    With --curves, also how often the best clone of that report agreed with its victim after as many
    queries as this caller sent distinct images: a guess, and only as good as the report's victim
    and surrogate pool resemble yours.
    """
    from intaglio.audit_records import read_audit
    from intaglio.audit_summary import summarise

    curve = None if curves is None else _curve(curves, defense)
    since = None if hours is None else datetime.now(UTC) - timedelta(hours=hours)
    skipped = 0

    def skip(what: str) -> None:
        nonlocal skipped
        skipped += 1
        if skipped <= MOST_NAMED:
            click.echo(f"Skipped {what}", err=True)

    names = known_names(config, assignments)
    records = read_audit(directory, skipped=skip)
    summaries = summarise(records, unsure_below=unsure_below, since=since)
    if skipped > MOST_NAMED:
        click.echo(f"Skipped {skipped - MOST_NAMED:,} more lines.", err=True)
    if as_json:
        plain = [_plain(summary, curve, names) for summary in summaries]
        click.echo(json.dumps(plain, indent=2))
    elif not summaries:
        click.echo(f"There is no record under {directory}.")
    else:
        _print(summaries, curve, names)


def _curve(path: Path, defense: str) -> Curve:
    from attack_client.errors import AttackError
    from attack_client.report import read_json
    from intaglio.audit_summary import Curve

    try:
        rows = [row.model_dump() for row in read_json(path).rows]
    except AttackError as error:
        raise Sentence(f"--curves: {error}") from error
    chosen = [row for row in rows if row["defense"] == defense]
    if not chosen:
        known = sorted({str(row["defense"]) for row in rows if row["defense"] is not None})
        there = ", ".join(known) or "none that was named: attack with --defense NAME"
        raise Sentence(f"--defense: {path} has no {defense!r}, but {there}")
    try:
        return Curve.of(chosen)
    except ValueError:
        raise Sentence(
            f"--curves: {path} has no fidelity of {defense!r}: attack with --reference"
        ) from None


def _print(
    summaries: Sequence[CallerSummary], curve: Curve | None, names: Mapping[str, str] | None
) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from attack_client.printable import printable
    from models.console import open_console, print_table

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("key", no_wrap=True)
    if names is not None:
        table.add_column("name", overflow="fold")
    table.add_column("model", overflow="fold")
    for title in ("samples", "distinct", "refused", "OOD", "PRADA W", "failed"):
        table.add_column(title, justify="right")
    if curve is not None:
        table.add_column("clone", justify="right")
    for summary in summaries:
        share = summary.unsure_share
        cells: list[str | Text] = [
            summary.key,
            *([] if names is None else [Text(printable(names.get(summary.key) or "-"))]),
            # A caller chose it: neither markup nor anything that steers a terminal.
            Text(printable(summary.model)),
            f"{summary.samples:,}",
            f"{summary.distinct:,}",
            f"{summary.refused.total():,}",
            "-" if share is None else f"{share:.1%}",
            "-" if summary.statistic is None else f"{summary.statistic:.3f}",
            f"{summary.suspicious}/{summary.tests}",
        ]
        if curve is not None:
            cells.append(curve.at(summary.distinct))
        table.add_row(*cells)
    print_table(open_console(), table)


def _plain(
    summary: CallerSummary, curve: Curve | None, names: Mapping[str, str] | None
) -> dict[str, Any]:
    return {
        "key": summary.key,
        "name": None if names is None else names.get(summary.key),
        "model": summary.model,
        "requests": summary.requests,
        "samples": summary.samples,
        "distinct_images": summary.distinct,
        "charged": summary.charged,
        "refused": dict(summary.refused),
        "out_of_distribution_share": summary.unsure_share,
        "judged_samples": summary.judged,
        "prada_lowest_w": summary.statistic,
        "prada_tests": summary.tests,
        "prada_failed": summary.suspicious,
        "estimated_fidelity": None if curve is None else curve.at(summary.distinct),
        "first": None if summary.first is None else summary.first.isoformat(),
        "last": None if summary.last is None else summary.last.isoformat(),
    }

"""``intaglio leakage``: what every defense leaves every attack, in one table."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from attack_client.finite_range import FiniteRange
from intaglio.commands import shared_options

if TYPE_CHECKING:
    from rich.console import Console

    from intaglio.leakage.kept import Kept
    from intaglio.leakage.matrix import Matrix
    from intaglio.leakage.only import Only
    from intaglio.leakage.strongest import Status

__all__ = ["leakage"]


@click.command()
@click.argument("matrix", required=False)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where results are kept.  [default: runs/leakage/NAME]",
)
@click.option(
    "--jobs", type=click.IntRange(1, 256), help="Servers at a time.  [default: one per core]"
)
@click.option(
    "--ray", is_flag=True, help="Run on the Ray cluster at RAY_ADDRESS, or on a local one."
)
@click.option(
    "--only",
    "only",
    multiple=True,
    metavar="KEY=VALUE[,...]",
    help="Measure only a part: KEY is defense, attack, labels, budget or seed. Repeatable.",
)
@click.option("--dry-run", is_flag=True, help="Print the cells and what they would cost.")
@click.option(
    "--fail-above",
    type=FiniteRange(0.0, 2.0),
    metavar="X",
    help="Exit with status 1 if, despite a defense, the strongest clone has more than X of the "
    "victim's accuracy.",
)
@click.option("--junit", type=click.Path(path_type=Path), help="Write the gate as JUnit XML.")
@click.option(
    "--price-per-thousand",
    type=FiniteRange(0.0),
    metavar="PRICE",
    help="Price of a thousand queries, for the report.",
)
@shared_options.data_root
@shared_options.device
@shared_options.allow_factory("a bundle, a recipe or the matrix")
@click.option("--list", "listing", is_flag=True, help="List the matrices that come with Intaglio.")
def leakage(
    *,
    matrix: str | None,
    out: Path | None,
    jobs: int | None,
    ray: bool,
    only: tuple[str, ...],
    dry_run: bool,
    fail_above: float | None,
    junit: Path | None,
    price_per_thousand: float | None,
    data_root: Path | None,
    device: str,
    allow_factories: tuple[str, ...],
    listing: bool,
) -> None:
    """Measure MATRIX: defenses x attacks x labels x budgets x seeds.

    MATRIX is the path of a YAML file, or the name of a matrix that comes with Intaglio (--list).
    Each defended model is served and stolen over HTTP. A stopped run continues where it was when
    the same command is given again; a cell whose specification changed is measured again.
    """
    from intaglio.commands.leakage_ending import LeakageConsole, ending
    from intaglio.commands.leakage_rehearsal import rehearse
    from intaglio.leakage.cells import cells_of, digest
    from intaglio.leakage.kept import Kept
    from intaglio.leakage.matrix import load_matrix, shipped_matrices
    from intaglio.leakage.only import Only
    from intaglio.leakage.preflight import preflight
    from models.console import open_console
    from models.training.device import asked_device, choose_device

    console = open_console(LeakageConsole, soft_wrap=True)
    if listing:
        for name in shipped_matrices():
            console.print(f"{name}: {load_matrix(name).description}", highlight=False)
        return
    if matrix is None:
        raise click.UsageError("give a matrix, or --list to see those there are")
    with ending(out or matrix):
        loaded = load_matrix(matrix)
        changes: dict[str, object] = {}
        if fail_above is not None:
            changes["gate"] = loaded.gate.model_copy(update={"fail_above": fail_above})
        if price_per_thousand is not None:
            changes["price_per_thousand"] = price_per_thousand
        loaded = loaded.model_copy(update=changes).allowing(allow_factories)
        kept = Kept((out or Path("runs/leakage") / loaded.name).absolute())
        wanted = Only.parse(only, loaded)
        asked = (cell for cell in cells_of(loaded) if cell in wanted)
        left = [cell for cell in asked if not kept.has(cell, digest(loaded, cell))]
        preflight(loaded, left, data_root=data_root)
        device = asked_device(device) if ray else str(choose_device(device))
        if dry_run:
            rehearse(console, loaded, wanted, kept, data_root)
            return
        began = time.monotonic()
        cores = os.cpu_count() or 1
        given = [] if jobs is None else ["--jobs", str(jobs)]
        given += [part for name in allow_factories for part in ("--allow-factory", name)]
        jobs = jobs or cores
        _have(
            console,
            loaded,
            wanted,
            kept,
            jobs=jobs,
            threads=_threads(cores // jobs),
            ray=ray,
            data_root=data_root,
            device=device,
        )
        passed = _report(
            console,
            loaded,
            wanted,
            kept,
            source=matrix,
            given=given,
            device=device,
            ray=ray,
            junit=junit,
            began=began,
        )
    if not passed:
        raise SystemExit(1)


def _threads(share: int) -> int:
    """Of one computation: as many as the environment says, else a job's share of the cores."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    return int(said) if said.isdecimal() and int(said) else max(1, share)


def _have(
    console: Console,
    matrix: Matrix,
    only: Only,
    kept: Kept,
    *,
    jobs: int,
    threads: int,
    ray: bool,
    data_root: Path | None,
    device: str,
) -> None:
    from intaglio.leakage.measure import have
    from intaglio.leakage.on_ray import ray_crew
    from intaglio.leakage.runner import local_crew
    from models.training.lock import locked

    root = None if data_root is None else data_root.absolute()
    with (
        locked(kept.out, f"another process is working on {kept.out}"),
        ray_crew(kept.out, threads=threads, device=device) if ray else local_crew(jobs) as crew,
    ):
        have(
            matrix,
            only,
            kept,
            crew,
            data_root=root,
            device=device,
            threads=threads,
            console=console,
        )


def _report(
    console: Console,
    matrix: Matrix,
    only: Only,
    kept: Kept,
    *,
    source: str,
    given: Sequence[str],
    device: str,
    ray: bool,
    junit: Path | None,
    began: float,
) -> bool:
    """Write and print what there is; whether the release may go out and nothing failed."""
    from intaglio.leakage.cells import cells_of, digest
    from intaglio.leakage.gate import judge, told_passed, write_junit
    from intaglio.leakage.measure import gather
    from intaglio.leakage.only import Only
    from intaglio.leakage.tables import render, without_latency
    from intaglio.leakage.written import write_outcome
    from models.console import print_table

    # What earlier runs had is in the report, too: a part is named only if there is nothing else.
    had = [cell for cell in cells_of(matrix) if kept.has(cell, digest(matrix, cell))]
    flags = _flags(matrix, only if all(cell in only for cell in had) else Only())
    command = ["intaglio", "leakage", source, *flags, *given]
    outcome = gather(matrix, kept, command=command, device=device, ray=ray)
    write_outcome(outcome, kept.out)
    title = f"{matrix.name}: the strongest attack, clone %"
    print_table(console, render(outcome.lines, title=title))
    untimed = without_latency(outcome.lines, matrix.latency_requests)
    if untimed is not None:
        console.print(untimed, highlight=False, markup=False)
    for verdict in outcome.verdicts:
        console.print(verdict.sentence, highlight=False, markup=False)
    asked = _asked(outcome.statuses, matrix, only)
    failed = [status for status in asked if status.state != "done"]
    for status in failed:
        console.print(
            f"not measured: {status.defense}, {status.attack}, {status.labels}, {status.budget:,}, "
            f"seed {status.seed}: {status.reason}",
            highlight=False,
            markup=False,
        )
    console.print(f"{outcome.done} of {len(outcome.statuses)} cells are done.", highlight=False)
    for name in ("report.html", "report.md", "report.json"):
        console.print(f"  {kept.out / name}", highlight=False)
    judged = judge(matrix.gate, outcome.lines, asked)
    if junit is not None:
        write_junit(matrix.name, judged, time.monotonic() - began, junit)
    for one in judged:
        if not one.passed:
            why = one.failure or f"{len(one.missing)} of its cells are missing"
            console.print(f"FAILED {one.defense}: {why}", highlight=False, markup=False)
    passed = told_passed(judged)
    if passed is not None:
        console.print(passed, highlight=False, markup=False)
    return not failed and all(one.passed for one in judged)


def _asked(statuses: tuple[Status, ...], matrix: Matrix, only: Only) -> list[Status]:
    from intaglio.leakage.cells import cells_of

    cells = (cell for cell in cells_of(matrix) if cell in only)
    wanted = {(c.defense, c.attack, c.labels, c.budget, c.seed) for c in cells}
    return [s for s in statuses if (s.defense, s.attack, s.labels, s.budget, s.seed) in wanted]


def _flags(matrix: Matrix, only: Only) -> list[str]:
    """What was given on the command line and decides something."""
    found = ["--only", str(only)] if only.wanted else []
    if matrix.gate.fail_above is not None:
        found += ["--fail-above", f"{matrix.gate.fail_above:g}"]
    if matrix.price_per_thousand is not None:
        found += ["--price-per-thousand", f"{matrix.price_per_thousand:g}"]
    return found

"""``intaglio leakage --dry-run``: which cells there are, and what having them would cost."""

from __future__ import annotations

from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from intaglio.leakage.cells import cells_of, digest
from intaglio.leakage.estimate import FLOPS_PER_S, estimate_of
from intaglio.leakage.kept import Kept
from intaglio.leakage.matrix import Matrix
from intaglio.leakage.only import Only
from models.console import print_table

__all__ = ["rehearse"]


def rehearse(
    console: Console, matrix: Matrix, only: Only, kept: Kept, data_root: Path | None
) -> None:
    """Print the cells of ``only`` and what they would cost.

    Raises:
        MatrixError: a recipe or a bundle is not there, or wrong.
    """
    cells = [cell for cell in cells_of(matrix) if cell in only]
    table = Table("seed", "defense", "attack", "labels", "budget", "", box=box.SIMPLE_HEAD)
    for cell in cells:
        there = "done" if kept.has(cell, digest(matrix, cell)) else ""
        table.add_row(
            str(cell.seed), cell.defense, cell.attack, cell.labels, f"{cell.budget:,}", there
        )
    print_table(console, table)
    cost = estimate_of(matrix, cells, kept, data_root=data_root)
    console.print(
        f"{cost.cells} cells to measure and {cost.done} done, on {cost.benches} servers: "
        f"{cost.victims} victims to train, {cost.thefts} thefts of {cost.queries:,} queries in "
        f"all, and the test set queried {cost.honest} times by honest callers.",
        highlight=False,
    )
    if cost.hours is None:
        console.print(
            "What training costs is not known: an architecture or objective is not built in, or a "
            "running server's images are not known."
        )
    else:
        console.print(
            f"Training is at most {cost.hours:.1f} hours of one core at {FLOPS_PER_S / 1e9:.0f} "
            "GFLOP/s; equal clones are trained once, and attacks that train as they go add to it.",
            highlight=False,
        )

"""The recipes that there are, and one that was tried out, as tables for people."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from intaglio.dry_run import Rehearsal
from intaglio.outlook import availability, expected, outlook_of
from intaglio.recipe import Recipe
from models.console import print_table

__all__ = ["print_recipes", "print_rehearsal"]

LEGEND = """\
compute: an estimate, in PFLOP (10^15 operations) for the whole training: counted operations of a
forward pass x 3 x training images x epochs x passes of the objective. A machine that sustains
S TFLOP/s needs 1000 / S seconds for each.
data: here, bundled (nothing to download), download (torchvision has it), or bring your own (as
NAME.npz under the data root). measured: where our own figures are; unmeasured: never run as it
stands."""


def print_recipes(console: Console, recipes: Mapping[str, Recipe], data_root: Path | None) -> None:
    """A line per recipe: what it costs, whether we ran it, its data, what it is or reproduces."""
    rows = [("recipe", "compute", "measured", "data", "what it trains")]
    look = cache(expected)  # many recipes are of one dataset
    for name, recipe in recipes.items():
        flops = outlook_of(recipe, data_root=data_root, look=look).flops
        cost = "unknown" if flops is None else f"{_pflop(flops)} PFLOP"
        where = recipe.measured or "unmeasured"
        rows.append((name, cost, where, _data(recipe, data_root), recipe.description))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        # One line each, however narrow the terminal: people search this list.
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        console.print(Text("  ".join(cells).rstrip()), highlight=False, soft_wrap=True)
    console.print(Text(f"\n{LEGEND}"), highlight=False, soft_wrap=True)


def print_rehearsal(
    console: Console, recipe: Recipe, tried: Rehearsal, data_root: Path | None
) -> None:
    """What would be trained, on what, for how long, and what the one step gave."""
    outlook, plan = tried.outlook, recipe.plan
    facts = Table.grid(padding=(0, 2))
    if recipe.reproduces:
        facts.add_row("reproduces", Text(recipe.reproduces))
    for role, count in tried.parameters.items():
        facts.add_row(f"network {role}", f"{count:,} parameters")
    for key, (name, known) in tried.data.items():
        size, shown = "x".join(map(str, known.shape)), "x".join(map(str, outlook.shape))
        fitted = "" if size == shown else f", fitted to {shown}"
        facts.add_row(
            key,
            Text(
                f"{name} ({availability(name, data_root)}): {known.train:,} images of {size}"
                f"{fitted}, {known.classes} classes"
            ),
        )
    if recipe.objective.base is not None:
        facts.add_row("objective.base", Text(f"{recipe.objective.base}, to be trained before"))
    steps = plan.steps(outlook.images)
    facts.add_row(
        "plan",
        f"{plan.epochs} epochs of {steps} steps of {plan.batch_size} at most, "
        f"{outlook.images:,} images, {plan.precision}",
    )
    if outlook.flops is not None:
        facts.add_row("compute", f"{_pflop(outlook.flops)} PFLOP, estimated")
    losses = ", ".join(f"{name} {value:.4g}" for name, value in tried.losses.items())
    facts.add_row("one step", Text(f"on noise: {losses}"))
    console.print(Text(recipe.name, style="bold"))
    print_table(console, facts, highlight=False)


def _data(recipe: Recipe, data_root: Path | None) -> str:
    names = [recipe.data.train, recipe.data.ood]
    ensemble = recipe.objective.ensemble
    names.append(ensemble.hash.data if ensemble is not None else None)
    distinct = dict.fromkeys(name for name in names if name is not None)
    return ", ".join(f"{name} ({availability(name, data_root)})" for name in distinct)


def _pflop(flops: float) -> str:
    return f"{flops / 1e15:.3g}"

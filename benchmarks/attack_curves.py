"""Every attack against a victim without a defense: fidelity over budget, MNIST from Fashion-MNIST.

    python -m benchmarks.attack_curves [--data-root DIR] [--seeds 3] [--epochs 1]

Trains a plain LeNet by the recipe ``mnist-lenet``, steals it in process with each attack, trains
clones of the answers and measures them; and KnockoffNets once more over HTTP, from a server that
has the same bundle. The comparison of composite images with standard mimicking (their paper's table
4) is made for every seed, the rest for the first. A step is skipped if its result is already under
``runs/attack-curves``; what is not there yet is missing in the table, not zero.
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
from pydantic import TypeAdapter

from attack_client.reference import Reference
from attack_client.report import Row, describe_environment, write_curves
from attack_client.scoring import Evaluation
from attack_client.victim_input import TestSet
from benchmarks.attack_clones import PRESENTATIONS, over_http, stolen_rows
from benchmarks.attack_steps import FRESH, MOST, ONCE, SMALLER, STANDARD, planned
from benchmarks.attack_victim import SHAPE, in_process, trained_victim
from benchmarks.envelope import IMAGES, RESULTS
from models.datasets import load

ROWS = TypeAdapter(list[Row])


def cached(path: Path, make: Callable[[], Any]) -> Any:
    """The JSON in ``path``, made where it is missing."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        made = make()
        made = ROWS.dump_python(made, mode="json") if isinstance(made, list) else made
        path.write_text(json.dumps(made, indent=1), encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))


def compared(rows: Sequence[Row], budget: int) -> dict[str, Any]:
    """Table 4 of the composite paper, at one budget."""
    lines = []
    for title, attack, labels in (
        ("standard, soft", STANDARD, "soft"),
        ("standard, hard", STANDARD, "hard"),
        ("composite, hard, drawn once", ONCE, "hard"),
        ("composite, hard, new in every epoch", FRESH, "hard"),
        ("composite, soft, drawn once", ONCE, "soft"),
    ):
        found = [r for r in rows if (r.attack, r.labels, r.budget) == (attack, labels, budget)]
        if found:
            shares = [100 * row.clone_accuracy for row in found]
            spread = f"{min(shares):.2f} to {max(shares):.2f}" if len(shares) > 1 else "-"
            relative = statistics.fmean(row.relative_accuracy or 0.0 for row in found)
            mean = f"{statistics.fmean(shares):.2f} %"
            lines.append([title, str(len(found)), mean, spread, f"{100 * relative:.2f} %"])
    return {
        "title": f"Composite images and standard mimicking at {budget:,} queries each",
        "header": ["mimicking", "seeds", "clone, mean", "range, %", "relative"],
        "rows": lines,
    }


@click.command()
@click.option("--data-root", type=click.Path(path_type=Path), envvar="INTAGLIO_DATA_ROOT")
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(min=1))
@click.option("--epochs", default=1, show_default=True, help="Of the victim; the recipe has 8.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/attack-curves"))
@click.option("--only", multiple=True, metavar="ATTACK", help="Measure these, write nothing.")
@click.option("--only-write", is_flag=True, help="Write what is there, measure nothing.")
def main(
    *,
    data_root: Path | None,
    seeds: int,
    epochs: int,
    out: Path,
    only: tuple[str, ...],
    only_write: bool,
) -> None:
    """Train, steal, measure, write."""
    if data_root is not None:  # pools are loaded by name, wherever a step wants one
        os.environ["INTAGLIO_DATA_ROOT"] = str(data_root)
    models = out / "models"
    bundle = trained_victim(models, epochs=epochs, data_root=data_root)
    victim = in_process(bundle)
    task = load("mnist", root=data_root)
    test = TestSet.of(task, shape=SHAPE, classes=10, spec=bundle.card.input)
    evaluation = Evaluation(test=test, reference=Reference.of(bundle, test), defense="none")
    rows: list[Row] = []
    for step, seed in planned(seeds):
        name = f"{step.name}-{seed}".replace(" ", "-")
        path, theft = out / "rows" / f"{name}.json", out / "thefts" / name
        if only and step.name not in only:
            continue
        if path.is_file() or not only_write:
            make = partial(stolen_rows, step, seed, victim, evaluation, theft)
            rows += ROWS.validate_python(cached(path, make))
        if (step.name, seed) == (STANDARD, 0) and not only_write:
            again = partial(over_http, models, out / "thefts" / "http", theft, evaluation)
            cached(out / "http.json", again)
    if only:
        return
    http = json.loads((out / "http.json").read_text(encoding="utf-8"))
    write_result(rows, http, epochs=epochs, seeds=seeds)


def write_result(rows: list[Row], http: dict[str, Any], *, epochs: int, seeds: int) -> None:
    """``attack-curves.json`` and its picture."""
    known = {(row.attack, row.seed) for row in rows}
    missing = [f"{s.name} (seed {n})" for s, n in planned(seeds) if (s.name, n) not in known]
    same = "the same images" if http["same_images"] else "OTHER images"
    first = [row for row in rows if row.seed == 0]
    document = {
        "schema": 1,
        "command": ["python", "-m", "benchmarks.attack_curves", "--seeds", str(seeds)],
        "environment": describe_environment(),
        "notes": [
            f"The victim is the recipe `mnist-lenet`, its epochs set to {epochs}; its answers are "
            f"rounded to the service's grid. Clones are LeNets shown {PRESENTATIONS:,} images, for "
            "at least 5 and at most 100 epochs, without augmentation, last epoch. The pool is "
            "Fashion-MNIST, but for `jbda` and `jbda-tr`, which begin with the first 150 training "
            "images of MNIST itself and take steps of 0.1 pixel. Clones of images that are new in "
            "every epoch have 10 epochs of 1,000 images: at this budget that is a fifth of what "
            "the others are shown. A student of `distil` owns images of MNIST with their labels: "
            "that attack is worth the better of its two rows. The rows below the tables are of the "
            "first seed.",
            f"Thefts are made in process; `knockoff` was made over HTTP, too: {same}, "
            f"probabilities that differ by {http['largest_difference']:.1g} at most, and a soft "
            f"clone of {http['clone_accuracy']:.2%} at {MOST:,} queries.",
            *([f"Not measured: {', '.join(missing)}."] if missing else []),
        ],
        "tables": [compared(rows, SMALLER), compared(rows, MOST)],
        "rows": ROWS.dump_python(first, mode="json"),
    }
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(document, indent=2) + "\n"
    (RESULTS / "attack-curves.json").write_text(text, encoding="utf-8")
    write_curves(first, IMAGES / "attack-curves.png")


if __name__ == "__main__":
    main()

"""Composite images from a small pool, at the price of what else the same queries buy.

    python -m benchmarks.composite_pools [--data-root DIR] [--seeds 3]

The composite paper's table 4 compares composite images with standard mimicking at eighty times as
many queries. Here every row of a comparison pays the same: 5,000 queries about a pool of 500 or
2,000 Fashion-MNIST images, which a plain theft cannot even spend, spent on blends of 2, 3 or 5 of
its images or on views of them (turned, moved and scaled); and below them what the pool alone gives,
each image asked once. Seeds are the outer loop and every finished row is kept, so a run that is
stopped has whole seeds; it goes on where it was.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import click
import numpy as np
from numpy.typing import NDArray

from attack_client.adaptive.views import view
from attack_client.attacks.composite import Composite
from attack_client.attacks.knockoff import Knockoff
from attack_client.clone import CloneRecipe
from attack_client.contract import Attack, BlackBox, Oracle, Pool
from attack_client.reference import Reference
from attack_client.report import Row, describe_environment
from attack_client.report.schema import Labels
from attack_client.scoring import Evaluation, train_and_score
from attack_client.theft import steal
from attack_client.victim_input import TestSet, as_pool
from benchmarks.attack_clones import PRESENTATIONS
from benchmarks.attack_victim import SHAPE, in_process, trained_victim
from benchmarks.envelope import RESULTS
from models.datasets import load
from models.training.plan import Augment

POOLS = (500, 2000)
BUDGET = 5000
PARTS = (2, 3, 5)


class Views(Attack):
    """Asks about every image of the pool, then about views of it until the budget is spent."""

    kind: ClassVar[str] = "views"

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    async def run(self, oracle: Oracle, pool: Pool) -> None:
        """Ask about ``oracle.budget`` images and views of them."""
        order = np.random.default_rng(self.seed).permutation(len(pool.images))
        images: NDArray[np.uint8] = pool.images[order]
        for number, start in enumerate(range(0, oracle.budget, len(images))):
            shown = images
            if number:
                shown = view(images, "affine", seed=self.seed, start=0, number=number)
            await oracle.ask(start, shown[: oracle.budget - start])


@dataclass(frozen=True, slots=True)
class Way:
    """One way to spend queries on a pool.

    Attributes:
        name: in the table.
        whole: whether all queries are spent; otherwise every image of the pool is asked once.
        labels: what clones learn from.
        parts: images in a blend; 0 for none.
        augment: what training does to the images, which costs no query.
    """

    name: str
    whole: bool
    labels: Labels
    parts: int = 0
    augment: Augment = "none"

    def attack(self, seed: int) -> Attack:
        """What chooses the images."""
        if self.parts:
            return Composite(parts=self.parts, seed=seed)
        return Views(seed=seed) if self.whole else Knockoff(seed=seed)


WAYS: tuple[Way, ...] = (
    *(Way(f"composite, {parts} parts", True, "hard", parts) for parts in PARTS),
    Way("views", True, "hard"),
    Way("composite, 2 parts", True, "soft", 2),
    Way("views", True, "soft"),
    Way("standard", False, "hard"),
    Way("standard", False, "soft"),
    Way("standard, shifted in training", False, "hard", augment="shift"),
    Way("standard, shifted in training", False, "soft", augment="shift"),
)


def planned(seeds: int) -> Iterator[tuple[int, int, Way]]:
    """Seed, size of the pool and way; whole seeds first."""
    return ((seed, size, way) for seed in range(seeds) for size in POOLS for way in WAYS)


def kept_at(out: Path, seed: int, size: int, way: Way) -> Path:
    """Where a finished row is kept."""
    name = f"{way.name} {way.labels} {size} {seed}"
    return out / "rows" / f"{name.replace(', ', '-').replace(' ', '-')}.json"


def measured(
    victim: BlackBox, pool: Pool, way: Way, *, seed: int, evaluation: Evaluation, out: Path
) -> Row:
    """Steal, train, measure."""
    size = len(pool.images)
    budget = BUDGET if way.whole else size
    attack = way.attack(seed)
    theft = out / "thefts" / f"{attack.kind}{way.parts}-{size}-{seed}"
    run = steal(victim, pool, attack, budget=budget, out=theft, resume=True, batch=256)
    with asyncio.run(run) as stolen:
        return train_and_score(
            stolen,
            budget=budget,
            labels=way.labels,
            recipe=CloneRecipe(
                architecture="lenet", presentations=PRESENTATIONS, augment=way.augment
            ),
            evaluation=evaluation,
            seed=seed,
            attack=f"{way.name} of {size:,} images",
        )


def small(pool: Pool, size: int, seed: int) -> Pool:
    """``size`` images of ``pool``, drawn anew for every seed."""
    rows = np.random.default_rng([seed, size]).choice(len(pool.images), size, replace=False)
    return Pool(f"{pool.name} ({size} images)", pool.images[rows], pool.labels[rows])


def compared(size: int, rows: Sequence[tuple[Way, Row]]) -> dict[str, object]:
    """A table of one pool: a line per way, means over seeds."""
    lines = []
    for way in WAYS:
        found = [row for other, row in rows if other == way]
        if found:
            shares = [100 * row.clone_accuracy for row in found]
            relative = statistics.fmean(row.relative_accuracy or 0.0 for row in found)
            lines.append(
                [
                    way.name,
                    way.labels,
                    f"{found[0].budget:,}",
                    str(len(found)),
                    f"{statistics.fmean(shares):.2f} %",
                    f"{min(shares):.2f} to {max(shares):.2f}" if len(shares) > 1 else "-",
                    f"{100 * relative:.2f} %",
                ]
            )
    return {
        "title": f"A pool of {size:,} images",
        "header": ["images asked", "labels", "queries", "seeds", "clone", "range, %", "relative"],
        "rows": lines,
    }


def claim(rows: Iterable[tuple[int, Way, Row]]) -> str:
    """What the rows say about more parts than two, in a sentence."""
    found = list(rows)
    told = []
    for size in POOLS:
        means = {}
        for parts in PARTS:
            shares = [
                row.clone_accuracy
                for of, way, row in found
                if (of, way.parts, way.labels) == (size, parts, "hard")
            ]
            if shares:
                means[parts] = statistics.fmean(shares)
        if means:
            best = max(means, key=lambda parts: means[parts])
            listed = ", ".join(f"{100 * mean:.1f} % of {parts}" for parts, mean in means.items())
            told.append(f"of {size:,} images {listed}, best with {best} parts")
    return "Blends of more parts, hard labels: " + "; ".join(told) + "."


@click.command()
@click.option("--data-root", type=click.Path(path_type=Path), envvar="INTAGLIO_DATA_ROOT")
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1, 10))
@click.option("--epochs", default=1, show_default=True, help="Of the victim; the recipe has 8.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/composite-pools"))
@click.option("--only-write", is_flag=True, help="Write what is there, measure nothing.")
def main(*, data_root: Path | None, seeds: int, epochs: int, out: Path, only_write: bool) -> None:
    """Train, steal, measure, write."""
    missing = [each for each in planned(seeds) if not kept_at(out, *each).is_file()]
    if missing and not only_write:
        bundle = trained_victim(out / "models", epochs=epochs, data_root=data_root)
        victim = in_process(bundle)
        task = load("mnist", root=data_root)
        test = TestSet.of(task, shape=SHAPE, classes=10, spec=bundle.card.input)
        evaluation = Evaluation(test=test, reference=Reference.of(bundle, test), defense="none")
        pool = as_pool(load("fashion_mnist", root=data_root), SHAPE)
        for seed, size, way in missing:
            drawn = small(pool, size, seed)
            row = measured(victim, drawn, way, seed=seed, evaluation=evaluation, out=out)
            path = kept_at(out, seed, size, way)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(row.model_dump_json(), encoding="utf-8")
            sys.stdout.write(f"{row.attack} {way.labels} {seed} {100 * row.clone_accuracy:.2f} %\n")
            sys.stdout.flush()
    found = [
        (size, way, Row.model_validate_json(path.read_bytes()))
        for seed, size, way in planned(seeds)
        if (path := kept_at(out, seed, size, way)).is_file()
    ]
    document = {
        "schema": 1,
        "command": ["python", "-m", "benchmarks.composite_pools", "--seeds", str(seeds)],
        "environment": describe_environment(),
        "notes": [
            f"The victim is the recipe `mnist-lenet`, its epochs set to {epochs}; it answers in "
            f"process, on the service's grid. Clones are LeNets shown {PRESENTATIONS:,} images, "
            "last epoch. A pool is drawn from Fashion-MNIST anew for every seed. `views` asks "
            "about every image of the pool and about it turned by up to 15 degrees, moved and "
            "scaled; `standard` asks about every image once, and cannot spend more.",
            claim(found),
            *(
                [f"{len(found)} of {len(list(planned(seeds)))} rows were measured."]
                if len(found) < len(list(planned(seeds)))
                else []
            ),
        ],
        "tables": [compared(size, [(w, r) for of, w, r in found if of == size]) for size in POOLS],
        "rows": [row.model_dump(mode="json") for _, _, row in found],
    }
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(document, indent=2) + "\n"
    (RESULTS / "composite-pools.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

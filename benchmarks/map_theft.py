"""Theft with maps: what explanations give away behind each defense, and what defending them costs.

    python -m benchmarks.map_theft MODELS [--queries N]... [--seed N]... [--only NAME]... [...]

MODELS holds ``mnist-lenet``, ``mnist-lenet-am`` and ``mnist-lenet-edm`` of the shipped recipes. A
LeNet is cloned from images of Fashion-MNIST by what the engine serves of each: answers alone, and
answers with Grad-CAM maps by the attack ``attribution``; judged on MNIST's test images, by which
nothing was chosen. Budgets are prefixes of one transfer set; a seed decides its order and the
clone's first weights. DeepDefense itself and its variants are robbed with the smallest budget and
the first seed only. Average Drop is that of the victim's score where all but the 15 % of an image
that a map points at are black, on the first test images: by the victim's own map and by the one
that leaves, with a paired t-test. A stopped run goes on where it was, in ``--out``.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attack_client.attacks.attribution_objective import (
    MapMatching,
    MapMatchingObjective,
    as_pictures,
)
from attack_client.clone import CloneRecipe, train_clone
from benchmarks.average_drop import average_drop
from benchmarks.bars import Bar, draw_bars
from benchmarks.envelope import IMAGES, Row, write
from benchmarks.map_answers import COMPARED, SERVED, Answers, ask, serve
from models.datasets import load
from models.training.evaluate import accuracy, probabilities

BENCHMARK = "map-theft"
LAMBDA = 1.0
CLASSES = 10


class Kept:
    """Figures that need not be computed twice."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._known: dict[str, float] = (
            json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        )

    def figure(self, name: str, compute: Callable[[], float]) -> float:
        """The figure of that name, computed now if it never was."""
        if name not in self._known:
            self._known[name] = compute()
            self._path.write_text(json.dumps(self._known, indent=2) + "\n", encoding="utf-8")
            sys.stderr.write(f"{name}: {self._known[name]:.4f}\n")
        return self._known[name]


def thefts(name: str) -> list[tuple[str, str, float]]:
    """Attackers on the answers of ``name``: how called, which labels, lambda."""
    with_maps = ("answers and maps", "soft", LAMBDA)
    if name == "dd-i" or ", " in name:  # its answers are those of none, or a variant
        return [with_maps]
    if name == "deepdefense":
        return [("answers", "soft", 0.0), with_maps, ("labels and maps", "hard", LAMBDA)]
    return [("answers", "soft", 0.0), with_maps]


def clone_accuracy(
    images: NDArray[np.uint8],
    targets: NDArray[np.float32] | NDArray[np.int64],
    maps: NDArray[np.float32],
    *,
    weight: float,
    presentations: int,
    seed: int,
    test: tuple[Tensor, Tensor],
) -> float:
    """Test accuracy of a clone of answers ``(N, K)`` or labels ``(N,)``, and of maps by weight."""
    told: dict[str, Any] = {}
    if weight:
        channels, height, width = images.shape[1:]
        told = {
            "objective": partial(MapMatchingObjective, matching=MapMatching(weight=weight)),
            "paired": as_pictures(maps, (channels, height, width)),
        }
    recipe = CloneRecipe(architecture="lenet", presentations=presentations)
    clone = train_clone(images, targets, classes=CLASSES, recipe=recipe, seed=seed, **told)
    return accuracy(probabilities(clone, test[0]), test[1])


def picture(rows: Sequence[Row], path: Path) -> None:
    """A bar for each clone of the largest theft, a colour for each attacker."""
    thefts = [row for row in rows if row.unit == "of test images"]
    largest = max(thefts, key=lambda row: int(row.workload.rpartition("-")[2])).workload
    bars = []
    for row in thefts:
        if row.workload == largest:
            subject, _, attacker = row.subject.rpartition(": ")
            bars.append(Bar(subject, attacker, 100 * row.value))
    draw_bars(bars, path, axis="accuracy of the clone, percent", logarithmic=False)


@click.command()
@click.argument("models", type=click.Path(exists=True, path_type=Path))
@click.option("--data-root", type=click.Path(path_type=Path), envvar="INTAGLIO_DATA_ROOT")
@click.option("--queries", "budgets", multiple=True, type=int, default=(3000,), show_default=True)
@click.option("--seed", "seeds", multiple=True, type=int, default=(0,), show_default=True)
@click.option("--only", multiple=True, type=click.Choice(list(SERVED)), help="Of what is served.")
@click.option("--presentations", default=30_000, show_default=True)
@click.option("--honest", default=1000, show_default=True, help="Test images of honest callers.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/map-theft"))
@click.option("--name", default=BENCHMARK, show_default=True, help="Of the result's file.")
def main(
    *,
    models: Path,
    data_root: Path | None,
    budgets: tuple[int, ...],
    seeds: tuple[int, ...],
    only: tuple[str, ...],
    presentations: int,
    honest: int,
    out: Path,
    name: str,
) -> None:
    """Measure everything; write results/NAME.json."""
    torch.set_num_threads(1)
    names = [each for each in SERVED if not only or each in only]
    engine, served = serve(models, names)
    kept = Kept(out / "figures.json")
    mnist = load("mnist", root=data_root)
    pool = load("fashion_mnist", root=data_root).train_images
    test = (torch.from_numpy(mnist.test_images), torch.from_numpy(mnist.test_labels))
    rows: list[Row] = []
    honest_answers: dict[str, Answers] = {}
    given = mnist.test_images[:honest]
    for subject, model in served.items():
        told = ask(engine, model, given, out / model.name / "honest")
        honest_answers[subject] = told
        right = float((told[0].argmax(axis=1) == mnist.test_labels[:honest]).mean())
        rows.append(
            Row(BENCHMARK, f"mnist-test-{honest}", subject, "share", right, "of labels right")
        )
    if {"none", "deepdefense"} <= served.keys():
        pair = (honest_answers["none"], honest_answers["deepdefense"])
        rows += average_drop(served["deepdefense"], given, *pair)
    orders = {
        seed: torch.randperm(len(pool), generator=torch.Generator().manual_seed(seed)).numpy()
        for seed in seeds
    }
    for budget in sorted(budgets):
        workload = f"mnist-from-fashion-{budget}"
        for subject, model in served.items():
            if subject not in COMPARED and budget != min(budgets):
                continue
            robbed = seeds if subject in COMPARED else seeds[:1]
            spent = 0.0
            found: dict[str, list[float]] = {}
            for seed in robbed:
                images = pool[orders[seed][:budget]]
                said, maps, took = ask(engine, model, images, out / model.name / f"seed-{seed}")
                spent += took
                for attacker, labels, weight in thefts(subject):
                    targets = said if labels == "soft" else said.argmax(axis=1).astype(np.int64)
                    clone = partial(
                        clone_accuracy, images, targets, maps,
                        weight=weight, presentations=presentations, seed=seed, test=test,
                    )  # fmt: skip
                    figure = f"{workload}, {presentations} presentations, seed {seed}"
                    value = kept.figure(f"{figure}: {subject}, {attacker}", clone)
                    found.setdefault(f"{subject}: {attacker}", []).append(value)
            each = 1e3 * spent / (budget * len(robbed))
            rows.append(Row(BENCHMARK, workload, subject, "time", each, "ms of CPU per query"))
            for title, values in found.items():
                rows += _over_seeds(workload, title, values)
    command = ["python", "-m", "benchmarks.map_theft", str(models)]
    command += [part for budget in budgets for part in ("--queries", str(budget))]
    command += [part for seed in seeds for part in ("--seed", str(seed))]
    command += [part for each in only for part in ("--only", each)]
    command += ["--presentations", str(presentations), "--honest", str(honest)]
    write(name, command, rows)
    IMAGES.mkdir(parents=True, exist_ok=True)
    picture(rows, IMAGES / f"{name}.png")


def _over_seeds(workload: str, title: str, values: Sequence[float]) -> list[Row]:
    """The mean, and where there are several seeds how far they lie apart."""
    mean = Row(BENCHMARK, workload, title, "share", statistics.fmean(values), "of test images")
    if len(values) == 1:
        return [mean]
    apart, unit = max(values) - min(values), f"largest less smallest of {len(values)} seeds"
    return [mean, Row(BENCHMARK, workload, title, "share", apart, unit)]


if __name__ == "__main__":
    main()

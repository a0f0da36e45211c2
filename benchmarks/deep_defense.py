"""DeepDefense: what a query costs, and what a thief learns from the answers.

    python -m benchmarks.deep_defense BUNDLE --data-root DIR [--queries 1000] [--name NAME]

Time: the low-rank form on batches of 32 against the plain full-weight form one query at a time, the
same steps, interleaved, CPU seconds of this process (the machine may be shared). Theft: a clone of
soft labels per defense and one of hard labels, in process, from a pool of Fashion-MNIST; judged on
MNIST's test images, by which nothing was chosen.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median

import click
import numpy as np
import torch
from torch import Tensor, nn

from attack_client.clone import CloneRecipe, train_clone
from benchmarks.bars import Bar, draw_bars
from benchmarks.envelope import IMAGES, Row, write
from defenses.contract import Answers, Queries
from defenses.deep_defense import DeepDefenseProbabilities
from defenses.deep_defense_layers import most_sensitive, sensitivity
from models.bundle import open_bundle
from models.datasets import load
from models.simplex import GRID, one_hot, round_to_grid, top1
from models.training.evaluate import accuracy, probabilities

BATCH = 32
BENCHMARK = "deep-defense"


def ask(network: nn.Module, images: Tensor) -> Queries:
    """Queries of uint8 ``images``, with seeds of their own."""
    said = round_to_grid(probabilities(network, images), GRID)
    none = torch.zeros(len(images), dtype=torch.bool)
    return Queries(images / 255.0, torch.arange(len(images)), none, said)


def part(queries: Queries, rows: slice) -> Queries:
    """Some of the queries."""
    return Queries(
        queries.images[rows], queries.seeds[rows], queries.explain[rows], queries.victim[rows]
    )


def answer(defense: DeepDefenseProbabilities, queries: Queries) -> Tensor:
    """What leaves."""
    return defense.apply(queries, Answers(queries.victim)).probabilities


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds of this process."""
    began = time.process_time()
    work()
    return time.process_time() - began


def cost(
    low_rank: DeepDefenseProbabilities, full: DeepDefenseProbabilities, queries: Queries
) -> list[Row]:
    """Milliseconds per query of both forms."""
    batched, single = [], []
    for repetition in range(4):
        rows = slice(BATCH * repetition, BATCH * (repetition + 1))
        batch = part(queries, rows)
        batched.append(1e3 * seconds(partial(answer, low_rank, batch)) / BATCH)
        one = part(queries, slice(rows.start, rows.start + 1))
        single.append(1e3 * seconds(partial(answer, full, one)))
    # The first repetition pays for what is only done once.
    fast, slow = median(batched[1:]), median(single[1:])
    workload = f"lenet-28x28-cpu-{low_rank.misdirection.plan.steps}-steps"
    subjects = ("full, one at a time", "low-rank, batch of 32")
    return [
        Row(BENCHMARK, workload, subjects[0], "time", slow, "ms of CPU per query"),
        Row(
            BENCHMARK, workload, subjects[1], "time", fast, "ms of CPU per query",
            baseline=subjects[0], ratio=fast / slow,
        ),
    ]  # fmt: skip


def theft(
    images: Tensor, answers: dict[str, Tensor], test: tuple[Tensor, Tensor], presentations: int
) -> list[Row]:
    """Test accuracy of a clone of each set of answers."""
    recipe = CloneRecipe(architecture="lenet", presentations=presentations)
    rows = []
    for subject, targets in answers.items():
        clone = train_clone(
            images.numpy(), targets.numpy().astype(np.float32), classes=targets.shape[1],
            recipe=recipe, seed=0,
        )  # fmt: skip
        value = accuracy(probabilities(clone, test[0]), test[1])
        workload = f"mnist-from-fashion-{len(images)}"
        rows.append(Row(BENCHMARK, workload, subject, "share", value, "of test images"))
        sys.stderr.write(f"{subject}: {value:.4f}\n")
    return rows


def picture(rows: Sequence[Row], path: Path) -> None:
    """A bar for each clone."""
    shares = [row for row in rows if row.unit == "of test images"]
    queries = shares[0].workload.rpartition("-")[2]
    bars = [Bar(row.subject, f"clone of {queries} answers", 100 * row.value) for row in shares]
    draw_bars(bars, path, axis="accuracy of the clone, percent", logarithmic=False)


@click.command()
@click.argument("bundle", type=click.Path(exists=True, path_type=Path))
@click.option("--data-root", type=click.Path(path_type=Path), envvar="INTAGLIO_DATA_ROOT")
@click.option("--queries", "budget", default=1000, show_default=True)
@click.option("--presentations", default=30_000, show_default=True)
@click.option("--name", default=BENCHMARK, show_default=True, help="Of the result's file.")
def main(bundle: Path, data_root: Path | None, budget: int, presentations: int, name: str) -> None:
    """Measure both; write results/NAME.json."""
    torch.set_num_threads(1)
    network = open_bundle(bundle).load("victim")
    mnist = load("mnist", root=data_root)
    seen = torch.from_numpy(mnist.train_images[-128:]) / 255.0
    layers = most_sensitive(sensitivity(network, seen), 0.9)
    pool = torch.from_numpy(load("fashion_mnist", root=data_root).train_images)
    chosen = torch.randperm(len(pool), generator=torch.Generator().manual_seed(0))[:budget]
    images = pool[chosen]
    queries = ask(network, images)
    low_rank = DeepDefenseProbabilities(victim=network, layers=layers)
    rows = cost(
        low_rank,
        DeepDefenseProbabilities(victim=network, layers=layers, weights="full"),
        queries,
    )
    decoy = DeepDefenseProbabilities(victim=network, layers=layers, decoy=1.0)
    answers = {
        "none": queries.victim,
        "label-only": one_hot(top1(queries.victim), queries.victim.shape[1]),
        "dd-s": answer(low_rank, queries),
        "dd-s, decoy: 1": answer(decoy, queries),
    }
    for subject in ("dd-s", "dd-s, decoy: 1"):
        said = answers[subject]
        label = (said == answers["label-only"]).all(dim=1).double().mean().item()
        moved = (said - queries.victim).abs().sum(dim=1).mean().item()
        workload = f"fashion-{budget}-queries"
        rows += [
            Row(BENCHMARK, workload, subject, "share", label, "of answers one-hot"),
            Row(BENCHMARK, workload, subject, "distance", moved, "L1, mean"),
        ]
    test = (torch.from_numpy(mnist.test_images), torch.from_numpy(mnist.test_labels))
    rows += theft(images, answers, test, presentations)
    command = ["python", "-m", "benchmarks.deep_defense", str(bundle)]
    command += ["--queries", str(budget), "--presentations", str(presentations)]
    write(name, command, rows)
    IMAGES.mkdir(parents=True, exist_ok=True)
    picture(rows, IMAGES / f"{name}.png")


if __name__ == "__main__":
    main()

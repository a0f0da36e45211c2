"""Which optimiser clones are trained with by default, chosen by what an attacker can see.

    python -m benchmarks.clone_optimiser TRANSFER_SET[=PRESENTATIONS] ...

Of the first 10,000 answers of each transfer set, a fifth is held out. Every candidate trains clones
on the rest, from soft and from hard labels, with three seeds, and is judged by how often its last
epoch agrees with the victim's top-1 on the fifth. No test set is read. The candidate with the best
mean over all sets and labels is what ``CloneRecipe`` should have as its default.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click
import numpy as np

from attack_client.clone import CloneRecipe, train_clone
from attack_client.predictions import agreement, hard_labels, predict
from attack_client.transfer_set import TransferSet
from benchmarks.envelope import Row, write
from models.training.plan import Adam, Sgd

SEEDS = (0, 1, 2)
ANSWERS = 10_000
SHARE = 0.2
DECAY = 5e-4
CANDIDATES: dict[str, Sgd | Adam] = {
    **{
        f"sgd-nesterov {lr:g}": Sgd(lr=lr, nesterov=True, weight_decay=DECAY)
        for lr in (0.01, 0.05, 0.1)
    },
    "adam 0.001": Adam(lr=1e-3),
}
BASELINE = "sgd-nesterov 0.05"


def fidelity(stolen: TransferSet, labels: str, recipe: CloneRecipe, seed: int) -> float:
    """Agreement with the victim on held-out answers."""
    images, answers = stolen.prefix(min(ANSWERS, stolen.complete))
    order = np.random.default_rng(seed).permutation(len(images))
    held, rest = np.split(order, [int(SHARE * len(images))])
    truth = hard_labels(answers)
    clone = train_clone(
        images[rest],
        answers[rest] if labels == "soft" else truth[rest],
        classes=answers.shape[1],
        recipe=recipe,
        seed=seed,
    )
    return agreement(predict(clone, images[held]), truth[held])


@click.command()
@click.argument("sets", nargs=-1, required=True)
def main(sets: tuple[str, ...]) -> None:
    """Train every candidate on every set."""
    scores: dict[str, list[float]] = {name: [] for name in CANDIDATES}
    rows: list[Row] = []
    for given in sets:
        place, _, presentations = given.partition("=")
        with TransferSet.read(Path(place)) as stolen:
            workload = f"{stolen.provenance.pool}-{min(ANSWERS, stolen.complete)}-lenet"
            for labels in ("soft", "hard"):
                means = {}
                for name, optimiser in CANDIDATES.items():
                    recipe = CloneRecipe(
                        architecture="lenet",
                        optimiser=optimiser,
                        presentations=int(presentations or 20_000),
                    )
                    got = [fidelity(stolen, labels, recipe, seed) for seed in SEEDS]
                    means[name] = float(np.mean(got))
                    scores[name] += got
                    sys.stdout.write(f"{workload} {labels} {name}: {got}\n")
                    sys.stdout.flush()
                rows += [
                    Row(
                        "clone-optimiser", f"{workload}-{labels}", name, "share", mean,
                        "of held-out answers", BASELINE, mean / means[BASELINE],
                    )
                    for name, mean in means.items()
                ]  # fmt: skip
    base = float(np.mean(scores[BASELINE]))
    rows += [
        Row(
            "clone-optimiser", "all", name, "share", float(np.mean(got)),
            "of held-out answers", BASELINE, float(np.mean(got)) / base,
        )
        for name, got in scores.items()
    ]  # fmt: skip
    write("clone-optimiser", ["python", "-m", "benchmarks.clone_optimiser", *sets], rows)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()

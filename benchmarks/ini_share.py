"""Does estimating InI's clone terms on part of each batch cost any of the defense?

    python -m benchmarks.ini_share [--data-root DIR]

Trains ``digits-ini`` with three seeds for several values of ``clone_share``, and ``digits-plain``
beside it, steals each with the same 6,000 letters in process, and reports the accuracy of the
clones on the digits test set, soft labels and hard. Nothing is chosen by these figures but the
sentence about ``clone_share`` in the documentation.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

import click
import numpy as np
import torch

from attack_client.clone import CloneRecipe, train_clone
from attack_client.predictions import agreement, predict
from attack_client.transfer_set import hard_labels
from benchmarks.envelope import Row, write
from intaglio.recipe import load_recipe
from intaglio.training import train_recipe
from models.bundle import open_bundle
from models.datasets import load
from models.preprocessing import fit_arrays
from models.training.evaluate import accuracy, probabilities

SEEDS = (0, 1, 2)
SHARES = (1.0, 0.25)
BUDGET = 6000
PRESENTATIONS = 20_000
BASELINE = "clone_share 1"
SUBJECTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "plain": ("digits-plain", ()),
    **{
        f"clone_share {share:g}": ("digits-ini", (f"objective.options.clone_share={share}",))
        for share in SHARES
    },
}


def measure(
    recipe: str, overrides: tuple[str, ...], seed: int, data_root: Path | None
) -> dict[str, float]:
    """Accuracy on the test set: of a victim, and of its clones by what they were shown."""
    settled = load_recipe(recipe, (*overrides, f"data.split_seed={seed}", f"plan.seed={seed}"))
    with tempfile.TemporaryDirectory() as scratch:
        bundle = open_bundle(train_recipe(settled, out=Path(scratch), data_root=data_root))
        victim, spec = bundle.load("victim"), bundle.card.input
    digits = load("digits", root=data_root, split_seed=seed)
    test, truth = fit_arrays(digits.test_images, spec), digits.test_labels
    pool = fit_arrays(load("letters", root=data_root).train_images, spec)
    shown = pool[np.random.default_rng(seed).permutation(len(pool))[:BUDGET]]
    answers = probabilities(victim, torch.from_numpy(shown)).numpy()
    said = probabilities(victim, torch.from_numpy(test))
    figures = {"victim": accuracy(said, torch.from_numpy(truth))}
    for labels, targets in (("soft", answers), ("hard", hard_labels(answers))):
        clone = train_clone(
            shown,
            targets,
            classes=answers.shape[1],
            recipe=CloneRecipe(architecture="lenet", presentations=PRESENTATIONS),
            seed=seed,
        )
        figures[labels] = agreement(predict(clone, test), truth)
    return figures


@click.command()
@click.option("--data-root", type=click.Path(path_type=Path), envvar="INTAGLIO_DATA_ROOT")
def main(data_root: Path | None) -> None:
    """Train, steal, report."""
    figures = {
        subject: [measure(*recipe, seed, data_root) for seed in SEEDS]
        for subject, recipe in SUBJECTS.items()
    }
    rows = []
    for what in ("victim", "soft", "hard"):
        workload = f"digits, {what}" if what == "victim" else f"digits<-letters-{BUDGET}, {what}"
        base = statistics.mean(seen[what] for seen in figures[BASELINE])
        for subject, seen in figures.items():
            values = [of_seed[what] for of_seed in seen]
            rows += [
                Row("ini-share", workload, f"{subject}, seed {seed}", "share", value, "accuracy")
                for seed, value in zip(SEEDS, values, strict=True)
            ]
            mean = statistics.mean(values)
            compared = subject != BASELINE
            rows += [
                Row(
                    "ini-share", workload, f"{subject}, mean", "share", mean, "accuracy",
                    f"{BASELINE}, mean" if compared else None, mean / base if compared else None,
                ),
                Row(
                    "ini-share", workload, f"{subject}, standard deviation", "share",
                    statistics.stdev(values), "accuracy",
                ),
            ]  # fmt: skip
    write("ini-share", ["python", "-m", "benchmarks.ini_share"], rows)


if __name__ == "__main__":
    main()

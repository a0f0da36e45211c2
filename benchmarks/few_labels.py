"""What a teacher is worth to a student with few labels of his own: plain, nasty and sparse ones.

    python -m benchmarks.few_labels [--data-root DIR] [--out runs/few-labels] [--seeds 0,1,2]

With all the labels of its teacher's data a student of this size learns nothing from a plain teacher
either (``benchmarks.defended_training``), so that nothing can be said of a defended one. Here he
owns ``LABELLED`` of the images that the teacher was trained on, asks about those and distils. Every
lesson is shown; what is said of teachers is said of the published one. A stopped run goes on where
it was, and seeds may be run apart.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attack_client.attacks.distil import Distil
from attack_client.attacks.distil_objective import Distillation, Lesson
from attack_client.clone import CloneRecipe, train_clone
from attack_client.predictions import agreement, predict
from attack_client.report import describe_environment
from benchmarks.defended_page import spread
from benchmarks.envelope import RESULTS, Row
from benchmarks.own_images import own_images
from intaglio.recipe import load_recipe
from intaglio.training import train_recipe
from models.bundle import open_bundle
from models.simplex import GRID, round_to_grid
from models.training.evaluate import probabilities

SEEDS = (0, 1, 2)
LABELLED = 200
STUDENT_EPOCHS = 40
PLAN = ("data.train_limit=4000", "plan.epochs=8", "plan.batch_size=64")
TEACHERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "none": ("fashion-lenet", ()),
    "nasty": ("fashion-lenet-nasty", ()),
    "stt": ("fashion-lenet-stt", ()),
    "ast": ("fashion-lenet-ast", ()),
}
"""Shipped recipes and what is changed of each; the first is the base of the others."""
SCRATCH = Lesson(alpha=0.0, temperature=1.0)
PUBLISHED = Lesson(alpha=0.9, temperature=4.0)
LESSONS = (SCRATCH, Lesson(0.5, 4.0), PUBLISHED, Lesson(1.0, 1.0))


def measure(name: str, seed: int, *, out: Path, data_root: Path | None) -> dict[str, float]:
    """Accuracy on the test set: of the teacher, and of a student by each lesson."""
    place = out / f"seed-{seed}"
    kept = place / f"{name}.json"
    if kept.is_file():
        found: dict[str, float] = json.loads(kept.read_text(encoding="utf-8"))
        return found
    models = place / "models"
    recipe, changes = TEACHERS[name]
    if not (models / name / "1").is_dir():
        base = () if name == "none" else ("objective.base=none/1",)
        train_recipe(
            load_recipe(
                recipe, (*PLAN, *base, *changes, f"plan.seed={seed}", f"name={name}", "version=1")
            ),
            out=models,
            data_root=data_root,
        )
    bundle = open_bundle(models / name / "1")
    data = own_images(TEACHERS["none"][0], PLAN, data_root)
    chosen = Distil(seed=seed).order(len(data.train_images))[:LABELLED]
    images, truth = data.train_images[chosen], torch.from_numpy(data.train_labels[chosen])
    answers = round_to_grid(probabilities(bundle.load("victim"), torch.from_numpy(images)), GRID)
    measured = bundle.card.networks["victim"].measured
    figures = {"teacher": next(one.accuracy for one in measured if one.split == "test")}
    for lesson in LESSONS:
        student = taught(images, truth, answers, lesson, seed)
        figures[lesson.name] = agreement(predict(student, data.test_images), data.test_labels)
    kept.write_text(json.dumps(figures) + "\n", encoding="utf-8")
    return figures


def taught(
    images: NDArray[np.uint8], truth: Tensor, answers: Tensor, lesson: Lesson, seed: int
) -> nn.Module:
    """A student of ``images``, of their labels, and of what a teacher said of them ``(N, K)``."""
    return train_clone(
        images,
        Distillation.targets(answers, truth, lesson).numpy(),
        classes=answers.shape[1],
        recipe=CloneRecipe(architecture="lenet", epochs=STUDENT_EPOCHS),
        seed=seed,
        objective=partial(Distillation, lesson=lesson),
    )


Found = Mapping[str, Sequence[Mapping[str, float]]]


def sentences(found: Found) -> list[str]:
    """What each teacher adds to the labels, by seed, and whether that is less than a plain one."""

    def gains(of: Sequence[Mapping[str, float]]) -> list[float]:
        return [100 * (one[PUBLISHED.name] - one[SCRATCH.name]) for one in of]

    plain = gains(found["none"])
    said = [
        f"A plain teacher adds {_listed(plain)} points to {LABELLED} labels, by seed, with the "
        "published alpha 0.9 and T 4"
        + (
            ", so that here there is something to defend."
            if min(plain) > 0.0
            else "; **with some seed nothing, so that nothing is to be seen here.**"
        )
    ]
    for name, of in found.items():
        if name == "none":
            continue
        own = gains(of)
        less = [mine - theirs for mine, theirs in zip(own, plain, strict=True)]
        verdict = (
            "less than a plain one with every seed"
            if max(less) < 0.0
            else "**not less than a plain one with every seed**"
        )
        if max(own) <= 0.0:
            verdict += ": the student does better without"
        said.append(f"`{name}` adds {_listed(own)} points: {verdict}.")
        against = ", ".join(
            f"{100 * _mean_gap(of, found['none'], lesson.name):+.1f} with {lesson.name}"
            for lesson in LESSONS
            if lesson != SCRATCH
        )
        said.append(
            f"A student of `{name}` against one of a plain teacher by the same lesson, mean over "
            f"seeds: {against}."
        )
    return said


def _mean_gap(
    of: Sequence[Mapping[str, float]], plain: Sequence[Mapping[str, float]], lesson: str
) -> float:
    return statistics.fmean(
        mine[lesson] - other[lesson] for mine, other in zip(of, plain, strict=True)
    )


def table_of(found: Found) -> dict[str, object]:
    """Means and standard deviations over seeds."""
    return {
        "title": f"Fashion-MNIST, students of {LABELLED} labelled images, mean and standard "
        "deviation over seeds, in percent",
        "header": ["teacher", "its accuracy", *(lesson.name for lesson in LESSONS)],
        "rows": [
            [
                name,
                *(
                    spread(one[what] for one in of)
                    for what in ("teacher", *(lesson.name for lesson in LESSONS))
                ),
            ]
            for name, of in found.items()
        ],
    }


def rows_of(found: Found) -> list[Row]:
    """Every figure."""
    return [
        Row("few-labels", f"fashion, {LABELLED} labels, seed {seed}", f"{name}, {what}", "share",
            value, "accuracy")
        for name, of in found.items()
        for seed, one in zip(SEEDS, of, strict=True)
        for what, value in one.items()
    ]  # fmt: skip


def _listed(points: Sequence[float]) -> str:
    return ", ".join(f"{value:+.1f}" for value in points)


@click.command()
@click.option("--data-root", type=click.Path(path_type=Path), envvar="INTAGLIO_DATA_ROOT")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/few-labels"))
@click.option("--seeds", default=",".join(map(str, SEEDS)), help="Of which; the result needs all.")
def main(data_root: Path | None, out: Path, seeds: str) -> None:
    """Train teachers and students, report."""
    torch.set_num_threads(1)
    wanted = tuple(int(seed) for seed in seeds.split(","))
    found: dict[str, list[dict[str, float]]] = {name: [] for name in TEACHERS}
    for seed in wanted:
        for name, of in found.items():
            of.append(measure(name, seed, out=out, data_root=data_root))
            click.echo(f"{name}, seed {seed}: {of[-1]}")
    if wanted != SEEDS:
        return
    document = {
        "schema": 1,
        "command": ["python", "-m", "benchmarks.few_labels"],
        "environment": describe_environment(),
        "notes": [
            f"Teachers: {', '.join(PLAN)}; students: LeNet, {STUDENT_EPOCHS} epochs, of images "
            "that their teachers were trained on.",
            *sentences(found),
        ],
        "tables": [table_of(found)],
        "rows": [asdict(row) for row in rows_of(found)],
    }
    RESULTS.mkdir(exist_ok=True)
    kept = RESULTS / "few-labels.json"
    kept.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    click.echo(f"wrote {kept}")


if __name__ == "__main__":
    main()

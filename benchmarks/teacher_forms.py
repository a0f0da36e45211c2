"""Which readings of Nasty, STT and AST matter: where papers and code part, one at a time.

    python -m benchmarks.teacher_forms [--data-root DIR] [--out runs/teacher-forms] [--seeds 3]

The students of ``benchmarks.few_labels``, and teachers of a little less than its scale. Every
teacher is one change away from a shipped recipe, and is compared with that recipe's teacher of the
same seed. A thief takes the better of what he learns from the labels alone and by each lesson,
chosen by ``CHOSEN_BY`` images that no student learns from. All of them are images that the teachers
were trained on. Seeds are done one after the other, all teachers with each; a stopped run goes on
where it was.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attack_client.attacks.distil import Distil
from attack_client.attacks.distil_objective import Lesson
from attack_client.predictions import agreement, predict
from attack_client.report import describe_environment
from benchmarks.envelope import IMAGES, RESULTS
from benchmarks.few_labels import (
    LABELLED,
    PUBLISHED,
    SCRATCH,
    STUDENT_EPOCHS,
    taught,
)
from benchmarks.own_images import own_images
from benchmarks.teacher_forms_page import (
    NAME,
    alphas_of,
    rows_of,
    sentences,
    survived,
    table_of,
)
from benchmarks.teacher_forms_picture import draw_alphas
from benchmarks.teacher_forms_pieces import FORMS, PLAIN, PLAN, Seen
from defenses.top_k import keep_largest
from intaglio.training import train_recipe
from models.bundle import open_bundle
from models.datasets import Dataset
from models.errors import NotFiniteError
from models.simplex import GRID, one_hot, round_to_grid, top1
from models.training.evaluate import probabilities

__all__ = ["CHOSEN_BY", "LESSONS", "SEEDS", "entropy", "measure"]

SEEDS = 3
CHOSEN_BY = 1000
LESSONS = (PUBLISHED, Lesson(1.0, 1.0))


def entropy(answers: Tensor) -> float:
    """Mean ``-sum_k p_k log10 p_k`` of rows ``(N, K)``; a probability of zero adds nothing."""
    return float(torch.special.entr(answers).sum(dim=1).mean()) / math.log(10.0)


def measure(name: str, seed: int, *, out: Path, data_root: Path | None) -> Seen | None:
    """Train, serve and distil the teacher ``name``, unless that was done before."""
    place = out / f"seed-{seed}"
    form = FORMS[name]
    called = f"form-{form.digest()}"  # one that changed is measured anew
    kept = place / f"{called}.json"
    bundle = PLAIN if form.recipe == FORMS[PLAIN].recipe else called
    if kept.is_file():
        found = json.loads(kept.read_text(encoding="utf-8"))
        return None if found is None else Seen(**found)
    seen: Seen | None = None
    try:
        if not (place / "models" / bundle / "1").is_dir():
            train_recipe(form.trained(bundle, seed), out=place / "models", data_root=data_root)
    except NotFiniteError as error:
        click.echo(f"{name}, seed {seed}: {error}")
    else:
        seen = _distilled(form.served, place / "models" / bundle / "1", seed, data_root)
    kept.write_text(json.dumps(seen and asdict(seen)) + "\n", encoding="utf-8")
    return seen


def _distilled(served: str, bundle: Path, seed: int, data_root: Path | None) -> Seen:
    """What a student learns from the answers of ``bundle``."""
    data = _data(data_root)
    teacher = open_bundle(bundle).load("victim")

    def ask(about: NDArray[np.uint8]) -> Tensor:
        answers = probabilities(teacher, torch.from_numpy(about))
        if served == "label-only":
            answers = one_hot(top1(answers), answers.shape[1])
        elif served == "stingy":
            answers = keep_largest(answers, round(0.2 * answers.shape[1]))
        return round_to_grid(answers, GRID)

    tested, answers = ask(data.test_images), ask(data.train_images[_owned(seed, data_root)])
    alone = _alone(seed, data_root)
    scores = {SCRATCH.name: alone} | {
        lesson.name: _student(lesson, answers, seed, data_root) for lesson in LESSONS
    }
    best = max(scores, key=lambda name: scores[name].choosing)
    return Seen(
        benign=agreement(tested.numpy(), data.test_labels),
        entropy=entropy(tested),
        student=scores[best].test,
        lesson=best,
        scratch=alone.test,
    )


@dataclass(frozen=True, slots=True)
class Score:
    """Accuracy of a student on the images that choose among students, and on the test set."""

    choosing: float
    test: float


@cache
def _alone(seed: int, data_root: Path | None) -> Score:
    """The student who hears the labels alone: the same beside every teacher."""
    unheard = torch.full((LABELLED, len(_data(data_root).labels)), 0.1)
    return _student(SCRATCH, unheard, seed, data_root)


def _student(lesson: Lesson, answers: Tensor, seed: int, data_root: Path | None) -> Score:
    """One who is taught by ``answers`` to the images that he owns."""
    data = _data(data_root)
    owned, choosing = _owned(seed, data_root), _owned(seed, data_root, CHOSEN_BY)
    truth = torch.from_numpy(data.train_labels[owned])
    student = taught(data.train_images[owned], truth, answers, lesson, seed)
    return Score(
        agreement(predict(student, data.train_images[choosing]), data.train_labels[choosing]),
        agreement(predict(student, data.test_images), data.test_labels),
    )


def _data(data_root: Path | None) -> Dataset:
    return own_images(FORMS[PLAIN].recipe, PLAN, data_root)


def _owned(seed: int, data_root: Path | None, further: int = 0) -> NDArray[np.int64]:
    """Which of the teacher's images a student owns, or the ``further`` ones after those."""
    order = Distil(seed=seed).order(len(_data(data_root).train_images))
    return order[LABELLED : LABELLED + further] if further else order[:LABELLED]


@click.command()
@click.option("--data-root", type=click.Path(path_type=Path), envvar="INTAGLIO_DATA_ROOT")
@click.option("--out", type=click.Path(path_type=Path), default=Path(f"runs/{NAME}"))
@click.option("--seeds", type=click.IntRange(1), default=SEEDS, help="How many, from 0.")
def main(data_root: Path | None, out: Path, seeds: int) -> None:
    """Train teachers and students, report."""
    torch.set_num_threads(1)
    found: dict[str, list[Seen | None]] = {name: [] for name in FORMS}
    for seed in range(seeds):
        for name, of in found.items():
            of.append(measure(name, seed, out=out, data_root=data_root))
            click.echo(f"{name}, seed {seed}: {of[-1]}")
    document = {
        "schema": 1,
        "command": ["python", "-m", "benchmarks.teacher_forms", "--seeds", str(seeds)],
        "environment": describe_environment(),
        "notes": [
            f"Teachers: {', '.join(PLAN)}; students: LeNet, {STUDENT_EPOCHS} epochs, of the labels "
            f"alone or by {' or '.join(one.name for one in LESSONS)}, whichever "
            f"does best on {CHOSEN_BY:,} others. All of these are images that the teachers were "
            "trained on.",
            "Entropies are base 10, of answers to the test set at temperature 1 (uniform: 1).",
            *sentences(found),
        ],
        "tables": [table_of(found)],
        "rows": [asdict(row) for row in rows_of(found)],
    }
    kept = RESULTS / f"{NAME}.json"
    kept.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    plain = survived(found[PLAIN])
    assert plain is not None, "plain training survives"
    draw_alphas(
        {
            alpha: [(one.benign, one.student) for one in of]
            for alpha, of in alphas_of(found).items()
        },
        {"plain teacher": [one.benign for one in plain],
         "student of a plain teacher": [one.student for one in plain],
         "student of the labels alone": [one.scratch for one in plain]},
        IMAGES / f"{NAME}.png",
    )  # fmt: skip
    click.echo(f"wrote {kept}")


if __name__ == "__main__":
    main()

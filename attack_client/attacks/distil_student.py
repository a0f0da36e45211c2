"""One student of a distillation: from what it heard of its teacher to a trained network."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from attack_client.adaptive.contract import PLAIN, Tuition
from attack_client.attacks.distil_objective import Distillation, Lesson
from attack_client.clone import CloneRecipe, train_clone
from attack_client.errors import PoolError
from attack_client.predictions import agreement, hard_labels, predict
from attack_client.report.schema import Labels, Row
from attack_client.scoring import clone_seed
from models.training.progress import Reporter

__all__ = ["SCRATCH", "Heard", "Taught", "lesson_plan", "plain_tuition", "row_of_scratch", "teach"]

SCRATCH = Lesson(alpha=0.0, temperature=1.0)
"""What a student does that never hears the teacher."""


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """What there is to learn from.

    Attributes:
        images: ``(N, C, H, W)`` uint8.
        answers: ``(N, K)`` float32, the teacher's.
        weights: ``(N,)`` float32, how much each answer counts; 0 for one that is not heard.
        truth: ``(N,)`` int64, the labels.
    """

    images: NDArray[np.uint8]
    answers: NDArray[np.float32]
    weights: NDArray[np.float32]
    truth: NDArray[np.int64]

    def only(self, rows: NDArray[np.int64] | slice) -> Heard:
        """Those of its rows, in that order."""
        return Heard(self.images[rows], self.answers[rows], self.weights[rows], self.truth[rows])


@dataclass(frozen=True, slots=True, eq=False)
class Taught:
    """A trained student.

    Attributes:
        student: the network.
        validation: accuracy on the images held out; None where none were.
        held: how many.
    """

    student: nn.Module
    validation: float | None
    held: int


def lesson_plan(lessons: Iterable[Lesson]) -> tuple[Lesson, ...]:
    """Different lessons with something of the teacher in them, in order."""
    return tuple(sorted({lesson for lesson in lessons if lesson.alpha > 0.0}))


def plain_tuition(lesson: Lesson) -> Tuition:
    """How a student learns where no add-on changes it."""
    return replace(
        PLAIN,
        name=lesson.name,
        objective=partial(Distillation, lesson=lesson),
        repaired=lambda student, mass: Distillation(student, lesson, mass=mass),
    )


def teach(
    heard: Heard,
    lesson: Lesson,
    labels: Labels,
    *,
    recipe: CloneRecipe,
    seed: int,
    device: torch.device | str,
    reporter: Reporter | None = None,
    tuition: Tuition | None = None,
) -> Taught:
    """Train one student; equal arguments make an equal one.

    Args:
        heard: what it learns from.
        lesson: alpha, T and the floor.
        labels: the teacher's answers as they are, or their argmax.
        recipe: of the student; its holdout is for choosing among lessons, not an epoch.
        seed: of the attack.
        device: where to train; the student stays there.
        reporter: told of the training.
        tuition: what add-ons made of ``plain_tuition``, where there are any.

    Raises:
        PoolError: an answer is no distribution.
        ModelsError: the student cannot be built or trained.
    """
    if labels == "hard":
        one_hot = np.eye(heard.answers.shape[1], dtype=np.float32)
        heard = replace(heard, answers=one_hot[hard_labels(heard.answers)])
    held = recipe.held(len(heard.images))
    if held:  # a random part, whatever order the images were asked about in
        order = np.random.default_rng(clone_seed(seed)).permutation(len(heard.images))
        heard = heard.only(order)
    tuition = tuition or plain_tuition(lesson)
    student = train_clone(
        heard.images[held:],
        _targets(heard, lesson)[held:],
        classes=heard.answers.shape[1],
        recipe=replace(recipe, holdout=0.0),
        seed=clone_seed(seed),
        device=device,
        reporter=reporter,
        objective=tuition.objective,
        unlabelled=tuition.unlabelled,
    )
    if not held:
        return Taught(student, None, held)
    said = predict(student, heard.images[:held], device=device)
    return Taught(student, agreement(said, heard.truth[:held]), held)


def row_of_scratch(row: Row) -> Row:
    """``row`` of a student that asked nothing."""
    asked = dict.fromkeys(("queries", "unique_queries", "sent", "paid"), 0)
    priced = {} if row.cost is None else {"cost": 0.0}
    return row.model_copy(update={**asked, "theft_seconds": None, **priced})


def _targets(heard: Heard, lesson: Lesson) -> NDArray[np.float32]:
    try:
        targets = Distillation.targets(
            torch.from_numpy(heard.answers), torch.from_numpy(heard.truth), lesson
        )
    except ValueError as error:
        raise PoolError(f"nothing can be distilled: {error}") from error
    taught = np.asarray(targets.numpy(), dtype=np.float32)
    # A divergence is linear in what it is weighed by, up to what no gradient sees.
    taught[:, : heard.answers.shape[1]] *= heard.weights[:, np.newaxis]
    return taught

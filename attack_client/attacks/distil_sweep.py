"""A distillation in a program: every lesson with every kind of labels, and what it is worth."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from attack_client.adaptive.image_places import places
from attack_client.attacks.distil_objective import Lesson
from attack_client.attacks.distil_student import SCRATCH, Heard, lesson_plan, row_of_scratch, teach
from attack_client.attacks.distil_verdict import Student, Verdict
from attack_client.clone import CloneRecipe
from attack_client.contract import Pool
from attack_client.errors import PoolError
from attack_client.report.schema import Labels, Row
from attack_client.scoring import Evaluation, score
from attack_client.transfer_set import TransferSet
from models.training.progress import Reporter

__all__ = ["distil_and_score"]


def distil_and_score(
    stolen: TransferSet,
    pool: Pool,
    *,
    budget: int,
    lessons: Iterable[Lesson],
    recipe: CloneRecipe,
    evaluation: Evaluation,
    labels: Sequence[Labels] = ("soft",),
    seed: int = 0,
    device: torch.device | str = "cpu",
    reporter: Reporter | None = None,
) -> tuple[tuple[Row, ...], Verdict]:
    """Train a student from scratch and one for each of ``labels`` and ``lessons``; measure them.

    Args:
        stolen: open for reading, of an attack ``Distil``.
        pool: that was asked about; its labels are those of the victim's own task.
        budget: the prefix to learn from.
        lessons: what to try; the one from scratch is always trained, and is none of them.
        recipe: of every student. Its holdout is the share of the images to choose alpha and T by;
            0 chooses by the test set, which is too good to be true.
        evaluation: what to measure them against.
        labels: the teacher's answers as they are, or their argmax, or both.
        seed: of the attack.
        device: where to train.
        reporter: told of each training.

    Returns:
        A row per student, the one from scratch first; and the verdict, whose ``value`` is the
        accuracy of the better of the best that heard the teacher and the one that did not.

    Raises:
        TransferSetError: there are fewer answers than ``budget``.
        PoolError: an image that was asked about is not of ``pool``, or an answer is no
            distribution.
        ModelsError: a student cannot be built or trained.
    """
    images, answers = stolen.prefix(budget)
    found = places(images, pool.images)
    if (found < 0).any():
        raise PoolError(f"{stolen.path} holds answers to images that are not in pool {pool.name}")
    heard = Heard(images, answers, np.ones(budget, dtype=np.float32), pool.labels[found])
    tried = lesson_plan(lessons)
    plan: list[tuple[Labels, Lesson]] = [("hard", SCRATCH)]
    plan += [(kind, lesson) for kind in labels for lesson in tried]
    rows, students, held = [], [], 0
    for kind, lesson in plan:
        taught = teach(
            heard, lesson, kind, recipe=recipe, seed=seed, device=device, reporter=reporter
        )
        row = score(
            taught.student,
            stolen,
            images,
            labels=kind,
            recipe=recipe,
            evaluation=evaluation,
            seed=seed,
            device=device,
            attack=lesson.name,
        )
        held = taught.held
        rows.append(row_of_scratch(row) if lesson == SCRATCH else row)
        students.append(Student.of(lesson, row, taught.validation))
    return tuple(rows), Verdict(images=budget, held_out=held, students=tuple(students))

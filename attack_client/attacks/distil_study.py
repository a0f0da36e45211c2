"""Students of one teacher: every alpha with every T, and one that never heard the teacher."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

import numpy as np

from attack_client.adaptive.image_places import places
from attack_client.attacks.distil_objective import Lesson
from attack_client.attacks.distil_student import (
    SCRATCH,
    Heard,
    lesson_plan,
    plain_tuition,
    row_of_scratch,
    teach,
)
from attack_client.attacks.distil_verdict import Student, Verdict, write_verdicts
from attack_client.errors import PoolError
from attack_client.report.schema import Labels
from attack_client.scoring import score
from attack_client.study import Learnt, Lot, Study, StudyMaterial
from attack_client.victim_input import as_pool
from models.datasets import Dataset

__all__ = ["DistilStudy"]


class DistilStudy(Study[Lesson]):
    """Trains a student per lesson, and one from scratch: what the data is worth by itself.

    An attacker who owns the labels need not use the victim at all, so a student below the one
    from scratch is a failed attack and not a protection. All students start from the same weights
    and see the same images in the same order; each keeps its last epoch. Add-ons change what is
    heard of the teacher: an image whose answer they drop is learnt from its label alone.

    Args:
        lessons: what to try; one of alpha 0 is the one from scratch, which is always trained.
    """

    def __init__(self, lessons: Iterable[Lesson]) -> None:
        self.lessons = lesson_plan(lessons)

    def check(self, source: Dataset, task: Dataset) -> None:
        """Refuse training data whose labels are not those of the victim's task.

        Raises:
            PoolError: it has other classes than the test set.
        """
        if tuple(source.labels) != tuple(task.labels):
            raise PoolError(
                f"--pool {source.name} and --test {task.name} have different classes: "
                "distillation needs labels of the victim's own task"
            )

    def plan(self, labels: tuple[Labels, ...]) -> Iterator[tuple[Labels, Lesson]]:
        """Labels are what the student from scratch has, so its row says hard."""
        yield "hard", SCRATCH
        yield from ((kind, lesson) for kind in labels for lesson in self.lessons)

    def learn(
        self, material: StudyMaterial, lot: Lot, labels: Labels, variant: Lesson
    ) -> Learnt[Lesson]:
        """One student.

        Raises:
            PoolError: an answer is no distribution.
        """
        campaign = material.campaign
        heard = _heard(material, lot)
        scratch = variant == SCRATCH
        tuition = plain_tuition(variant)
        if not scratch:
            tuition = campaign.adaptations.tuition(material.knowledge, tuition)
        learning = len(heard.images) - campaign.recipe.held(len(heard.images))
        taught = teach(
            heard,
            variant,
            labels,
            recipe=campaign.recipe,
            seed=campaign.seed,
            device=material.device,
            reporter=material.reporter(f"{variant.name} on {learning:,} images"),
            tuition=tuition,
        )
        row = score(
            taught.student,
            material.stolen,
            lot.asked,
            labels=labels,
            recipe=campaign.recipe,
            evaluation=material.evaluation,
            seed=campaign.seed,
            device=material.device,
            attack=variant.name if scratch else campaign.adaptations.title(variant.name),
        )
        row = row_of_scratch(row) if scratch else row
        return Learnt(variant, row, taught.validation, taught.held)

    def conclude(self, material: StudyMaterial, learnt: Sequence[Learnt[Lesson]]) -> None:
        """Print a verdict for each budget and write ``distillation.json``."""
        verdicts = []
        for budget, each in groupby(learnt, key=lambda one: one.row.budget):
            students = tuple(each)
            verdict = Verdict(
                images=material.campaign.adaptations.images(budget),
                held_out=students[0].held,
                students=tuple(
                    Student.of(one.variant, one.row, one.validation) for one in students
                ),
            )
            verdicts.append(verdict)
            material.console.print(verdict.sentence(), highlight=False)
        write_verdicts(verdicts, material.campaign.out / "distillation.json")


def _heard(material: StudyMaterial, lot: Lot) -> Heard:
    """Images and the teacher's answers to them; one that add-ons dropped counts nothing."""
    told = material.campaign.adaptations.gather(lot.asked, lot.answers)
    found = places(told.images, lot.harvest.images)
    heard = found >= 0
    answers, weights = told.answers.copy(), np.zeros(len(found), dtype=np.float32)
    answers[heard] = lot.harvest.answers[found[heard]]
    weights[heard] = lot.harvest.weights[found[heard]]
    pool = as_pool(material.source, material.stolen.provenance.shape)
    truth = pool.labels[places(told.images, pool.images)]
    return Heard(told.images, answers, weights, truth)

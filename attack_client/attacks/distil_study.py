"""Students of one teacher: every alpha with every T, and one that never heard the teacher."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray

from attack_client.adaptive.contract import PLAIN, Tuition
from attack_client.adaptive.places import places
from attack_client.attacks.distil_objective import Distillation, Lesson
from attack_client.attacks.distil_verdict import Student, Verdict, write_verdicts
from attack_client.clone import train_clone
from attack_client.errors import PoolError
from attack_client.predictions import agreement, predict
from attack_client.report.schema import Labels
from attack_client.scoring import clone_seed, score
from attack_client.shown import as_pool
from attack_client.study import Learnt, Lot, Material, Study
from attack_client.transfer_set import hard_labels
from models.datasets import Dataset

__all__ = ["DistilStudy"]

SCRATCH = Lesson(alpha=0.0, temperature=1.0)


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
        self.lessons = tuple(sorted({lesson for lesson in lessons if lesson.alpha > 0.0}))

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
        self, material: Material, lot: Lot, labels: Labels, variant: Lesson
    ) -> Learnt[Lesson]:
        """One student.

        Raises:
            PoolError: an answer is no distribution.
        """
        campaign, stolen, device = material.campaign, material.stolen, material.device
        images, answers, weights = _heard(material, lot)
        if labels == "hard":
            answers = np.eye(answers.shape[1], dtype=np.float32)[hard_labels(answers)]
        truth = _truth(material, images)
        held = campaign.recipe.held(len(images))
        if held:  # a random part, whatever order the images were asked about in
            order = np.random.default_rng(clone_seed(campaign.seed)).permutation(len(images))
            images, answers = images[order], answers[order]
            weights, truth = weights[order], truth[order]
        tuition = self._tuition(material, variant)
        student = train_clone(
            images[held:],
            _targets(answers, truth, weights, variant)[held:],
            classes=answers.shape[1],
            recipe=replace(campaign.recipe, holdout=0.0),
            seed=clone_seed(campaign.seed),
            device=device,
            reporter=material.reporter(f"{variant.name} on {len(images) - held:,} images"),
            objective=tuition.objective,
            unlabelled=tuition.unlabelled,
        )
        scratch = variant == SCRATCH
        row = score(
            student,
            stolen,
            lot.asked,
            labels=labels,
            recipe=campaign.recipe,
            examination=material.examination,
            seed=campaign.seed,
            device=device,
            attack=variant.name if scratch else campaign.adaptations.title(variant.name),
        )
        if scratch:
            asked = dict.fromkeys(("queries", "unique_queries", "sent", "paid"), 0)
            nothing = {**asked, "theft_seconds": None}
            priced = {} if row.cost is None else {"cost": 0.0}
            row = row.model_copy(update={**nothing, **priced})
        known = None
        if held:
            known = agreement(predict(student, images[:held], device=device), truth[:held])
        return Learnt(variant, row, known, held)

    def conclude(self, material: Material, learnt: Sequence[Learnt[Lesson]]) -> None:
        """Print a verdict for each budget and write ``distillation.json``."""
        verdicts = []
        for budget, each in groupby(learnt, key=lambda one: one.row.budget):
            students = tuple(each)
            verdict = Verdict(
                images=budget // material.campaign.adaptations.per_image,
                held_out=students[0].held,
                students=tuple(
                    Student.of(one.variant, one.row, one.validation) for one in students
                ),
            )
            verdicts.append(verdict)
            material.console.print(verdict.sentence(), highlight=False)
        write_verdicts(verdicts, material.campaign.out / "distillation.json")

    def _tuition(self, material: Material, lesson: Lesson) -> Tuition:
        """How a student learns; the one from scratch hears nothing of add-ons either."""
        plain = replace(
            PLAIN,
            name=lesson.name,
            objective=partial(Distillation, lesson=lesson),
            repaired=lambda student, mass: Distillation(student, lesson, mass=mass),
        )
        if lesson == SCRATCH:
            return plain
        return material.campaign.adaptations.tuition(material.knowledge, plain)


def _heard(
    material: Material, lot: Lot
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """Images, the teacher's answers to them, and how much each answer counts; dropped ones 0."""
    told = material.campaign.adaptations.gather(lot.asked, lot.answers)
    found = places(told.images, lot.harvest.images)
    heard = found >= 0
    answers, weights = told.answers.copy(), np.zeros(len(found), dtype=np.float32)
    answers[heard] = lot.harvest.answers[found[heard]]
    weights[heard] = lot.harvest.weights[found[heard]]
    return told.images, answers, weights


def _truth(material: Material, images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The labels of ``images``, which are the pool's own."""
    pool = as_pool(material.source, material.stolen.provenance.shape)
    return pool.labels[places(images, pool.images)]


def _targets(
    answers: NDArray[np.float32],
    truth: NDArray[np.int64],
    weights: NDArray[np.float32],
    lesson: Lesson,
) -> NDArray[np.float32]:
    try:
        targets = Distillation.targets(torch.from_numpy(answers), torch.from_numpy(truth), lesson)
    except ValueError as error:
        raise PoolError(f"nothing can be distilled: {error}") from error
    taught = np.asarray(targets.numpy(), dtype=np.float32)
    # A divergence is linear in what it is weighed by, up to what no gradient sees.
    taught[:, : answers.shape[1]] *= weights[:, np.newaxis]
    return taught

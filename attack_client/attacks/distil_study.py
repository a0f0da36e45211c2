"""Students of one teacher: every alpha with every T, and one that never heard the teacher."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import nn

from attack_client.adaptive.contract import Seam
from attack_client.attacks.distil import Distil
from attack_client.attacks.distil_objective import Distillation, Lesson
from attack_client.attacks.distil_verdict import Student, Verdict, write_verdicts
from attack_client.clone import train_clone
from attack_client.errors import PoolError
from attack_client.predictions import agreement, predict
from attack_client.report.schema import Labels, Row
from attack_client.scoring import Examination, clone_seed, score
from attack_client.transfer_set import TransferSet, hard_labels
from models.datasets import Dataset

if TYPE_CHECKING:
    from attack_client.campaign import Campaign

__all__ = ["DistilStudy"]

SCRATCH = Lesson(alpha=0.0, temperature=1.0)


class DistilStudy:
    """Trains a student per lesson, and one from scratch: what the data is worth by itself.

    An attacker who owns the labels need not use the victim at all, so a student below the one
    from scratch is a failed attack and not a protection. All students start from the same weights
    and see the same images in the same order; each keeps its last epoch.

    Args:
        lessons: what to try; one of alpha 0 is the one from scratch, which is always trained.
    """

    seams: frozenset[Seam] = frozenset()

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

    def rows(
        self,
        campaign: Campaign,
        stolen: TransferSet,
        source: Dataset,
        examination: Examination,
        *,
        device: torch.device,
        console: Console,
    ) -> tuple[Row, ...]:
        """A row per student, the one from scratch first; writes ``distillation.json``.

        Raises:
            PoolError: an answer is no distribution.
        """
        order = Distil(seed=campaign.seed).order(len(source.train_labels))
        truth = source.train_labels[order]
        rows: list[Row] = []
        verdicts: list[Verdict] = []
        for budget in campaign.budgets:
            images, answers = stolen.prefix(budget)
            students = []
            held = campaign.recipe.held(budget)
            for labels, lesson in self._plan(campaign.labels):
                said = answers
                if labels == "hard":
                    said = np.eye(answers.shape[1], dtype=np.float32)[hard_labels(answers)]
                targets = _targets(said, truth[:budget], lesson)
                student = _train(
                    campaign, images, targets, lesson=lesson, device=device, console=console
                )
                row = score(
                    student,
                    stolen,
                    images,
                    labels=labels,
                    recipe=campaign.recipe,
                    examination=examination,
                    seed=campaign.seed,
                    device=device,
                    attack=lesson.name,
                )
                if lesson == SCRATCH:
                    nothing = {"queries": 0, "unique_queries": 0, "sent": 0, "theft_seconds": None}
                    priced = {} if row.cost is None else {"cost": 0.0}
                    row = row.model_copy(update={**nothing, **priced})
                known = None
                if held:
                    known = agreement(predict(student, images[:held], device=device), truth[:held])
                rows.append(row)
                students.append(Student.of(lesson, row, known))
            verdicts.append(Verdict(images=budget, held_out=held, students=tuple(students)))
            console.print(verdicts[-1].sentence(), highlight=False)
        write_verdicts(verdicts, campaign.out / "distillation.json")
        return tuple(rows)

    def _plan(self, labels: tuple[Labels, ...]) -> Iterator[tuple[Labels, Lesson]]:
        """Labels are what the student from scratch has, so its row says hard."""
        yield "hard", SCRATCH
        yield from ((kind, lesson) for kind in labels for lesson in self.lessons)


def _targets(
    answers: NDArray[np.float32], truth: NDArray[np.int64], lesson: Lesson
) -> NDArray[np.float32]:
    try:
        targets = Distillation.targets(torch.from_numpy(answers), torch.from_numpy(truth), lesson)
    except ValueError as error:
        raise PoolError(f"nothing can be distilled: {error}") from error
    return np.asarray(targets.numpy(), dtype=np.float32)


def _train(
    campaign: Campaign,
    images: NDArray[np.uint8],
    targets: NDArray[np.float32],
    *,
    lesson: Lesson,
    device: torch.device,
    console: Console,
) -> nn.Module:
    """A student of all images but those held out, which are the first of a random order."""
    from attack_client.campaign import progress_of

    held = campaign.recipe.held(len(images))
    return train_clone(
        images[held:],
        targets[held:],
        classes=targets.shape[1] // 2,
        recipe=replace(campaign.recipe, holdout=0.0),
        seed=clone_seed(campaign.seed),
        device=device,
        reporter=progress_of(f"{lesson.name} on {len(images) - held:,} images", console),
        objective=lambda student: Distillation(student, lesson),
    )

"""What came of a distillation: the better of what was taught and what the labels gave anyway."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from attack_client.attacks.distil_objective import Lesson
from attack_client.report.schema import Labels, Row
from models.training.atomic import write_atomically

__all__ = ["Student", "Verdict", "write_verdicts"]


@dataclass(frozen=True, slots=True)
class Student:
    """One trained student.

    Attributes:
        alpha: share of the teacher; 0 is the student from scratch.
        temperature: T.
        floor: of the answers.
        labels: whether the teacher's answers were used whole, or their argmax.
        validation: accuracy on the images held out; None where none were.
        accuracy: on the test set.
    """

    alpha: float
    temperature: float
    floor: float
    labels: Labels
    validation: float | None
    accuracy: float

    @classmethod
    def of(cls, lesson: Lesson, row: Row, validation: float | None) -> Self:
        """The student of ``lesson`` that ``row`` is about."""
        return cls(
            alpha=lesson.alpha,
            temperature=lesson.temperature,
            floor=lesson.floor,
            labels=row.labels,
            validation=validation,
            accuracy=row.clone_accuracy,
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """All students of one number of images.

    Attributes:
        images: labelled images of the attacker, each asked about once.
        held_out: how many of them chose and were not learnt from.
        students: the one from scratch first.
    """

    images: int
    held_out: int
    students: tuple[Student, ...]

    @property
    def scratch(self) -> Student:
        """The student that never heard the teacher."""
        return self.students[0]

    @property
    def taught(self) -> Student | None:
        """The best that heard it, by the images held out; by the test set where none were.

        None where nobody heard it.
        """
        heard = self.students[1:]
        return max(heard, key=_judged, default=None)

    @property
    def value(self) -> float:
        """``max(taught, scratch)`` on the test set: what this attacker ends up with."""
        heard = self.taught
        return max(self.scratch.accuracy, 0.0 if heard is None else heard.accuracy)

    def sentence(self) -> str:
        """For a terminal."""
        text = f"{self.images:,} images: from scratch {self.scratch.accuracy:.2%}"
        heard = self.taught
        if heard is None:
            return text
        by = "by held-out images" if self.held_out else "by the test set, an optimistic choice"
        return (
            f"{text}, distilled {heard.accuracy:.2%} (alpha {heard.alpha:g}, "
            f"T {heard.temperature:g}, {heard.labels}, chosen {by}): worth {self.value:.2%}"
        )

    def as_json(self) -> dict[str, Any]:
        """Every student, the choice, and what it is worth."""
        return {**asdict(self), "taught": self.taught and asdict(self.taught), "value": self.value}


def _judged(student: Student) -> float:
    return student.accuracy if student.validation is None else student.validation


def write_verdicts(verdicts: Sequence[Verdict], path: Path) -> None:
    """Write ``distillation.json``, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"schema": 1, "verdicts": [verdict.as_json() for verdict in verdicts]}
    write_atomically(path, (json.dumps(document, indent=2) + "\n").encode())

"""What a student of distillation minimises, when all it has of its teacher are probabilities."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.training.objective import Batch, Objective

__all__ = ["Distillation", "Lesson", "soften"]


@dataclass(frozen=True, slots=True, order=True)
class Lesson:
    """What weighs how much: ``alpha T^2 KL(teacher_T || student_T) + (1 - alpha) CE(labels)``.

    The published configurations have alpha 0.9 and T 4 (CIFAR-10) or 20 (CIFAR-100).

    Attributes:
        alpha: share of the teacher in [0, 1]; 0 learns from the labels alone.
        temperature: the T by which logits are divided, above 0.
        floor: answers below it are raised to it before they are softened, in [0, 0.1]. A served
            probability of zero is the service's doing (a grid, a truncation), and 0 leaves it so.
    """

    alpha: float = 0.9
    temperature: float = 4.0
    floor: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.alpha <= 1.0:
            raise ValueError(f"alpha must be in [0, 1], not {self.alpha:g}")
        if not (math.isfinite(self.temperature) and self.temperature > 0.0):
            raise ValueError(f"temperature must be a finite number > 0, not {self.temperature:g}")
        if not 0.0 <= self.floor <= 0.1:
            raise ValueError(f"floor must be in [0, 0.1], not {self.floor:g}")

    @property
    def name(self) -> str:
        """How reports call it; ``scratch`` where the teacher has no share."""
        if self.alpha == 0.0:
            return "scratch"
        floor = f", floor={self.floor:g}" if self.floor else ""
        return f"distil(alpha={self.alpha:g}, T={self.temperature:g}{floor})"


def soften(answers: Tensor, temperature: float, floor: float = 0.0) -> Tensor:
    """The teacher's ``softmax(z / T)`` from its ``softmax(z)``: ``p^(1/T)``, divided by its sum.

    A logit is known from a log-probability up to a constant of its row, which softmax forgets. An
    exact zero is a logit of minus infinity and stays zero at every temperature: that is how
    Stingy's own code treats truncated classes. Rows need not sum to 1.

    Args:
        answers: ``(N, K)`` in [0, 1], each row with something above 0.
        temperature: T, above 0.
        floor: least probability that is believed.

    Returns:
        ``(N, K)`` float32 on the simplex.

    Raises:
        ValueError: a row is negative, not finite or all zero; names it.
    """
    wrong = ~(answers.isfinite() & (answers >= 0.0)).all(dim=1) | (answers.sum(dim=1) <= 0.0)
    if bool(wrong.any()):
        raise ValueError(f"answer {int(wrong.nonzero()[0, 0])} is not a distribution over classes")
    # The maximum is subtracted inside softmax, so that no row underflows at a small T.
    logits = answers.double().clamp(min=floor).log() / temperature
    return logits.softmax(dim=1).float()


class Distillation(Objective):
    """The loss of ``Lesson``, on targets that carry the softened teacher beside the label.

    The targets of a batch are ``(B, 2 K)``: ``soften``'s rows, then the labels one-hot.

    Args:
        network: the student.
        lesson: the weights.
        mass: where given, the teacher is heard on the classes that it reveals only: the divergence
            is one among them, renormalised, and ``mass`` is the weight of the fact that they hold
            the student's probability (``sparse-repair``).
    """

    kind: ClassVar[str] = "distillation"
    mean_over_samples: ClassVar[bool] = True

    def __init__(self, network: nn.Module, lesson: Lesson, *, mass: float | None = None) -> None:
        self._network = network
        self._lesson = lesson
        self._mass = mass

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """The one network, under a role that no loop evaluates on targets of its own kind."""
        return {"student": self._network}

    def options(self) -> Mapping[str, bool | int | float | str]:
        """Alpha and T, and the mass if there is one; the floor is in the targets."""
        told = {"alpha": self._lesson.alpha, "temperature": self._lesson.temperature}
        return told if self._mass is None else {**told, "mass": self._mass}

    def losses(self, batch: Batch) -> Mapping[str, Tensor]:
        """``teacher`` and ``labels``, weighted; one of weight 0 is left out."""
        alpha, temperature = self._lesson.alpha, self._lesson.temperature
        logits = self._network(batch.images)
        taught, truth = batch.targets.chunk(2, dim=1)
        losses = {}
        if alpha > 0.0:
            divergence = self._divergence(logits / temperature, taught)
            losses["teacher"] = alpha * temperature**2 * divergence
        if alpha < 1.0:
            losses["labels"] = (1.0 - alpha) * functional.cross_entropy(logits, truth)
        return losses

    def _divergence(self, logits: Tensor, taught: Tensor) -> Tensor:
        """Mean over the batch, of rows ``taught`` that need not sum to one."""
        student = logits.log_softmax(dim=1)
        if self._mass is None:
            return functional.kl_div(student, taught, reduction="batchmean")
        revealed = taught > 0
        # A row without any is one that nobody heard: whatever it is compared with counts nothing.
        among = torch.where(revealed.any(dim=1, keepdim=True), revealed, True)
        inside = student.masked_fill(~among, -torch.inf).logsumexp(dim=1, keepdim=True)
        within = functional.kl_div(student - inside, taught, reduction="batchmean")
        outside = -(taught.sum(dim=1) * inside[:, 0]).mean()
        return within + self._mass * outside

    @staticmethod
    def targets(answers: Tensor, labels: Tensor, lesson: Lesson) -> Tensor:
        """``(N, 2 K)`` float32 from answers ``(N, K)`` and labels ``(N,)`` int64.

        Raises:
            ValueError: an answer is not a distribution over classes.
        """
        truth = functional.one_hot(labels, answers.shape[1]).float()
        return torch.cat([soften(answers, lesson.temperature, lesson.floor), truth], dim=1)

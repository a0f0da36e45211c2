"""What a network's answers look like as wholes: how flat, how spiky, how alike within a class.

These are the figures by which AST (Yilmaz and Keles 2024, Tables 3 and 4) compares teachers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from models.training.order import generator

__all__ = ["AnswerStatistics", "ClassStatistics", "Spread", "answer_statistics", "class_statistics"]

SPIKE = 2.0
"""Times the uniform share, above which a class is one that an answer points at."""


@dataclass(frozen=True, slots=True)
class AnswerStatistics:
    """Of softmax answers at one temperature.

    Attributes:
        accuracy: share of images whose top-1 is the label.
        entropy: mean ``-sum_k p_k log10 p_k``, from 0 to ``log10 K``: base 10, as the paper's are.
        within_class: mean ``KL(p_i || p_j)`` in nats over ordered pairs of images of one class,
            the mean over classes of at least two images; None without such a class. The paper does
            not say how it pairs images.
        spikes: mean number of classes with more than twice the uniform share.
    """

    accuracy: float
    entropy: float
    within_class: float | None
    spikes: float


@dataclass(frozen=True, slots=True)
class Spread:
    """Of one figure over the images of a class: its mean, variance (over N), least and largest."""

    mean: float
    variance: float
    least: float
    largest: float


@dataclass(frozen=True, slots=True)
class ClassStatistics:
    """Of softmax answers to the images of one class, as the paper's Table 3 has them.

    Attributes:
        label: the class.
        divergence: of ``KL(r || p_i)`` in nats, r the answer to a reference image of the class.
            That image is among the p_i, so that the least is 0, as the paper's are.
        entropy: of the answers' entropies, base 10.
    """

    label: int
    divergence: Spread
    entropy: Spread


def class_statistics(
    logits: Tensor, labels: Tensor, temperature: float, *, seed: int = 0
) -> list[ClassStatistics]:
    """The statistics of ``softmax(z / T)`` by class, of those that there are images of.

    Args:
        logits: ``(N, K)``, N at least 1.
        labels: ``(N,)`` int64, the truth.
        temperature: T, above 0.
        seed: by which each class's reference image is drawn.

    Raises:
        ValueError: ``temperature`` is not a finite number above 0.
    """
    logs = _logs(logits, temperature)
    found = []
    for label in sorted(set(labels.tolist())):
        rows = logs[labels == label]
        drawn = int(torch.randint(len(rows), (1,), generator=generator(seed, "reference", label)))
        reference = rows[drawn]
        divergence = (reference.exp() * (reference - rows)).sum(dim=1)
        entropy = -(rows.exp() * rows).sum(dim=1) / math.log(10.0)
        found.append(ClassStatistics(label, _spread(divergence), _spread(entropy)))
    return found


def _spread(values: Tensor) -> Spread:
    return Spread(
        mean=float(values.mean()),
        variance=float(values.var(correction=0)),
        least=float(values.min()),
        largest=float(values.max()),
    )


def _logs(logits: Tensor, temperature: float) -> Tensor:
    if not (math.isfinite(temperature) and temperature > 0.0):
        raise ValueError(f"temperature must be a finite number above 0, not {temperature:g}")
    return (logits.double() / temperature).log_softmax(dim=1)


def answer_statistics(logits: Tensor, labels: Tensor, temperature: float) -> AnswerStatistics:
    """The statistics of ``softmax(z / T)``.

    Args:
        logits: ``(N, K)``, N at least 1.
        labels: ``(N,)`` int64, the truth.
        temperature: T, above 0.

    Raises:
        ValueError: ``temperature`` is not a finite number above 0.
    """
    logs = _logs(logits, temperature)
    answers = logs.exp()
    own = (answers * logs).sum(dim=1)  # minus the entropy, in nats
    divergences = [
        _divergence(answers[chosen], logs[chosen], own[chosen])
        for label in range(answers.shape[1])
        if int((chosen := labels == label).sum()) > 1
    ]
    return AnswerStatistics(
        accuracy=float((logits.argmax(dim=1) == labels).double().mean()),
        entropy=float(-own.mean()) / math.log(10.0),
        within_class=sum(divergences) / len(divergences) if divergences else None,
        spikes=float((answers > SPIKE / answers.shape[1]).double().sum(dim=1).mean()),
    )


def _divergence(answers: Tensor, logs: Tensor, own: Tensor) -> float:
    """Mean over ordered pairs of different rows; a row's divergence from itself adds nothing."""
    count = len(answers)
    crossed = torch.dot(answers.sum(dim=0), logs.sum(dim=0))
    return float(count * own.sum() - crossed) / (count * (count - 1))

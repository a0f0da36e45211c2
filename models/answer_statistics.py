"""What a network's answers look like as wholes: how flat, how spiky, how alike within a class.

These are the figures by which AST (Yilmaz and Keles 2024, Tables 3 and 4) compares teachers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["AnswerStatistics", "answer_statistics"]

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


def answer_statistics(logits: Tensor, labels: Tensor, temperature: float) -> AnswerStatistics:
    """The statistics of ``softmax(z / T)``.

    Args:
        logits: ``(N, K)``, N at least 1.
        labels: ``(N,)`` int64, the truth.
        temperature: T, above 0.

    Raises:
        ValueError: ``temperature`` is not a finite number above 0.
    """
    if not (math.isfinite(temperature) and temperature > 0.0):
        raise ValueError(f"temperature must be a finite number above 0, not {temperature:g}")
    logs = (logits.double() / temperature).log_softmax(dim=1)
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

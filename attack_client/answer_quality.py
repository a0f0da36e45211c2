"""How good answers are beyond their overall accuracy: how sure, and how good for each class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from attack_client.predictions import hard_labels

__all__ = ["BINS", "accuracy_by_class", "calibration_error"]

BINS = 15


def calibration_error(
    answers: NDArray[np.float32], labels: NDArray[np.int64], *, bins: int = BINS
) -> float:
    """Expected calibration error in [0, 1] of ``answers`` ``(N, K)``, N at least 1.

    Guo et al. (ICML 2017), equation 5: ``sum_b n_b / N |accuracy_b - confidence_b|`` over ``bins``
    equal parts of [0, 1], by the probability of the top-1.
    """
    sure = answers.max(axis=1).astype(np.float64)
    right = hard_labels(answers) == labels
    # Of the half-open parts (0, 1/bins], (1/bins, 2/bins], ... as the equation has them.
    part = np.clip(np.ceil(sure * bins).astype(np.int64) - 1, 0, bins - 1)
    difference = np.bincount(part, weights=right - sure, minlength=bins)
    return min(1.0, float(np.abs(difference).sum() / len(labels)))


def accuracy_by_class(
    answers: NDArray[np.float32], labels: NDArray[np.int64]
) -> tuple[float | None, ...]:
    """Share of the images of each of K classes answered right; None where there are none."""
    classes = answers.shape[1]
    images = np.bincount(labels, minlength=classes)
    right = np.bincount(labels[hard_labels(answers) == labels], minlength=classes)
    return tuple(
        float(hits / count) if count else None for hits, count in zip(right, images, strict=True)
    )

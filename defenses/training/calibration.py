"""What a threshold of Adaptive Misinformation costs an honest caller, measured beforehand."""

from __future__ import annotations

import torch
from torch import Tensor

from models.card import Calibration
from models.simplex import GRID, round_to_grid
from models.training.evaluate import accuracy

__all__ = ["calibrate"]

ROWS = 512


def calibrate(
    victim: Tensor,
    misinformation: Tensor,
    labels: Tensor,
    *,
    dataset: str,
    reference: float,
    steepness: float = 1000.0,
    rows: int = ROWS,
) -> Calibration:
    """The table from which a threshold is chosen for a stated benign cost.

    Row tau says how often the top-1 that would be served is right. That is the hard switch (the
    victim's top-1 where its confidence reaches tau, the other network's elsewhere), but for images
    so close to tau that the two answers mix. Like the engine, it works on canonical probabilities.

    Args:
        victim: probabilities ``(N, K)`` of f on validation images.
        misinformation: probabilities ``(N, K)`` of f^ on the same images.
        labels: ``(N,)`` int64, the truth.
        dataset: what the images are from.
        reference: accuracy of the plain model on the same images.
        steepness: nu of the defense that will serve.
        rows: about how many thresholds; where there are more distinct confidences, quantiles.
    """
    said = round_to_grid(victim, GRID)
    wrong = round_to_grid(misinformation, GRID)
    confidence = said.max(dim=1, keepdim=True).values
    thresholds = _thresholds(confidence, rows)
    accuracies, rejected = [], []
    for threshold in thresholds:
        weight = torch.sigmoid(steepness * (threshold - confidence))
        accuracies.append(accuracy((1.0 - weight) * said + weight * wrong, labels))
        rejected.append((confidence < threshold).double().mean().item())
    return Calibration(
        dataset=dataset,
        samples=len(labels),
        reference=reference,
        thresholds=tuple(thresholds),
        accuracies=tuple(accuracies),
        rejected=tuple(rejected),
    )


def _thresholds(confidence: Tensor, rows: int) -> list[float]:
    """0, 1 and the confidences that occur, thinned to ``rows`` quantiles where there are more.

    A threshold stands half a grid step below the confidence that it is named after, so that the
    side on which that image falls does not hang on how a float was written down.
    """
    values = torch.unique(confidence)
    if len(values) > rows:
        values = values[torch.linspace(0, len(values) - 1, rows).round().long()]
    between = ((values.double() * GRID).round() - 0.5) / GRID
    return sorted({0.0, 1.0, *between.tolist()})

"""What must hold of every answer after every link, and in words which of it does not."""

from __future__ import annotations

import torch
from torch import Tensor

from defenses.contract import Answers, Queries

__all__ = ["TOLERANCE", "WrongShape", "broken", "fault", "require_shape"]

TOLERANCE = 1e-6
"""How far the sum of a row of probabilities may be from 1."""


class WrongShape(ValueError):
    """What a link returned cannot be judged row by row; the text goes on after the link's name."""


def require_shape(answers: Answers, queries: Queries) -> None:
    """Refuse what cannot be judged row by row; such a fault is the link's, not a row's.

    Raises:
        WrongShape: of another shape, type or device.
    """
    probabilities, attributions = answers.probabilities, answers.attributions
    if probabilities.shape != queries.victim.shape or probabilities.dtype != torch.float32:
        raise WrongShape(
            f"returned {_described(probabilities)}, not float32 of shape "
            f"{tuple(queries.victim.shape)}"
        )
    if probabilities.device != queries.victim.device:
        raise WrongShape(
            f"returned probabilities on {probabilities.device}, not on {queries.victim.device}"
        )
    if attributions is None:
        return
    if attributions.ndim != 3 or attributions.shape[0] != queries.victim.shape[0]:
        raise WrongShape(f"returned attributions {tuple(attributions.shape)}, not (B, h, w)")


def broken(answers: Answers, queries: Queries) -> Tensor:
    """Rows ``(B,)`` that are not finite, not on the simplex, or whose map is not finite."""
    probabilities = answers.probabilities
    sums = probabilities.sum(dim=1, dtype=torch.float64)
    # A NaN anywhere fails both comparisons; so does an infinity fail the sum.
    sane = ((sums - 1.0).abs() <= TOLERANCE) & (probabilities >= 0).all(dim=1)
    if answers.attributions is not None:
        sane &= answers.attributions.isfinite().all(dim=2).all(dim=1) | ~queries.explain
    return ~sane


def fault(answers: Answers, queries: Queries) -> str | None:
    """What the first of the ``broken`` rows holds, in words; None where no row is broken.

    For the author of a link and before anybody is served: it waits for the device.
    """
    rows = broken(answers, queries).nonzero().flatten()
    if not len(rows):
        return None
    row = answers.probabilities[rows[0]]
    total = float(row.sum(dtype=torch.float64))
    if row.isnan().any():
        return "holds NaN"
    if row.isinf().any():
        return "holds an infinity"
    if (row < 0).any():
        return f"holds {float(row.min()):.6g}, must be 0 or more"
    if not abs(total - 1.0) <= TOLERANCE:
        return f"rows sum to {total:.7g}, must be 1 within {TOLERANCE:g}"
    return "its attribution map is not finite"


def _described(probabilities: Tensor) -> str:
    kind = str(probabilities.dtype).removeprefix("torch.")
    return f"{kind} of shape {tuple(probabilities.shape)}"

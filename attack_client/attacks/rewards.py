"""What an answer is worth to an adaptive attacker."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["KINDS", "Rewards"]

KINDS = ("cert", "div", "loss")
"""Single rewards; ``all`` is the mean of the three."""

LEAST = 1e-12
"""Probability below which a clone is not believed: no loss is infinite."""

FLAT = 1e-12
"""Variance of a reward below which it tells no answer from another."""


class _Standard:
    """Values less their running mean, over their running deviation; 0 where they do not vary.

    A label-only victim has the same certainty for every image. Dividing by that deviation makes
    NaN of every preference.
    """

    def __init__(self) -> None:
        self._count, self._mean, self._squares = 0, 0.0, 0.0

    def __call__(self, value: float) -> float:
        self._count += 1
        step = value - self._mean
        self._mean += step / self._count
        self._squares += step * (value - self._mean)
        variance = self._squares / self._count
        return (value - self._mean) / math.sqrt(variance) if variance > FLAT else 0.0


class Rewards:
    """The rewards of Orekondy et al. (CVPR 2019), section 4.1.2.

    ``cert``: the victim's top probability less its second; ``div``: ``sum_k max(0, y_k - ybar_k)``
    with ybar the mean of all answers so far; ``loss``: the clone's cross-entropy with the answer;
    ``all``: the mean of the three, each standardised by its running mean and deviation.

    Args:
        kind: one of ``KINDS``, or ``all``.

    Raises:
        ValueError: there is no such reward.
    """

    def __init__(self, kind: str) -> None:
        if kind not in (*KINDS, "all"):
            raise ValueError(f"reward must be one of {', '.join(KINDS)} or all, not {kind!r}")
        self.kind = kind
        self._answers = 0
        self._mean = np.zeros(())
        self._standards = {name: _Standard() for name in KINDS}

    @property
    def needs_clone(self) -> bool:
        """Whether what the clone says is looked at."""
        return self.kind in {"loss", "all"}

    def of(self, said: NDArray[np.float32], clone: NDArray[np.float32] | None = None) -> float:
        """The reward, finite, of answer ``said`` ``(K,)`` to which the clone says ``clone``."""
        answer = said.astype(np.float64)
        self._answers += 1
        self._mean = self._mean + (answer - self._mean) / self._answers
        if self.kind != "all":
            return self._single(self.kind, answer, clone)
        values = [self._standards[name](self._single(name, answer, clone)) for name in KINDS]
        return sum(values) / len(values)

    def _single(
        self, kind: str, answer: NDArray[np.float64], clone: NDArray[np.float32] | None
    ) -> float:
        match kind:
            case "cert":
                second, first = np.partition(answer, -2)[-2:]
                return float(first - second)
            case "div":
                return float(np.maximum(0.0, answer - self._mean).sum())
            case _:
                assert clone is not None
                return float(-(answer * np.log(np.maximum(clone, LEAST))).sum())

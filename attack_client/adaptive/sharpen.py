"""Sharpening: answers that were flattened are made confident again."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from attack_client.adaptive.contract import Answering, Harvest, Knowledge
from attack_client.checked_numbers import finite_number

__all__ = ["Sharpen"]


class Sharpen(Answering):
    """``p_k^(1/T)`` over its sum, with T below 1: the order of the classes stays as it is.

    Rows that are all zero stay so.

    Args:
        temperature: T in (0, 1).
    """

    kind: ClassVar[str] = "sharpen"
    needs_soft: ClassVar[bool] = True

    def __init__(self, *, temperature: float = 0.5) -> None:
        if not 0.0 < finite_number("temperature", temperature) < 1.0:
            raise ValueError(f"temperature must be above 0 and below 1, not {temperature}")
        self.temperature = temperature

    def apply(self, harvest: Harvest, knowledge: Knowledge) -> Harvest:
        """The same images with sharper answers."""
        del knowledge
        answers = harvest.answers.astype(np.float64)
        top = answers.max(axis=1, keepdims=True)
        # Relative to the largest, so that nothing underflows at a small T.
        raised = np.divide(answers, top, out=np.zeros_like(answers), where=top > 0)
        raised **= 1.0 / self.temperature
        total = raised.sum(axis=1, keepdims=True)
        sharp = np.divide(raised, total, out=np.zeros_like(raised), where=total > 0)
        return harvest.saying(np.asarray(sharp, dtype=np.float32))

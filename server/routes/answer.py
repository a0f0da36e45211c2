"""What a protocol asks, and what comes back to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from server.dataplane import ModelView

__all__ = ["Answer", "Question"]


@dataclass(frozen=True, slots=True)
class Question:
    """A decoded query.

    Attributes:
        images: ``(n, C, H, W)`` uint8.
        timeout_s: what the caller will wait, counted from the end of its body; None: unstated.
        explain: whether an attribution map is asked for.
    """

    images: NDArray[np.uint8]
    timeout_s: float | None = None
    explain: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What the data plane said.

    Attributes:
        view: the model that answered.
        probabilities: ``(n, K)`` float32.
        attributions: ``(n, h, w)`` float32; None where none were asked for.
    """

    view: ModelView
    probabilities: NDArray[np.float32]
    attributions: NDArray[np.float32] | None = None

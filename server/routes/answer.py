"""What a protocol asks, and what comes back to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from starlette.responses import Response

from server.dataplane import ModelView

__all__ = ["Answer", "Codec", "Question"]


@dataclass(frozen=True, slots=True)
class Question:
    """A query that was read, and whose images are not decoded before its caller may ask it.

    Attributes:
        samples: images in it.
        images: decodes them: ``(samples, C, H, W)`` uint8. Called once.
        timeout_s: what the caller will wait, counted from the end of its body; None: unstated.
        explain: whether an attribution map is asked for.
    """

    samples: int
    images: Callable[[], Awaitable[NDArray[np.uint8]]]
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


@dataclass(frozen=True, slots=True)
class Codec:
    """A protocol's part of one request.

    Attributes:
        read: from the body to a question, for the model that will be asked.
        encode: from its answer to what leaves.
        explain: that a map will be asked for is known before the body is read.
        tensors: the body is nothing but JSON with tensors, which has a bound of its own.
    """

    read: Callable[[ModelView, bytes], Awaitable[Question]]
    encode: Callable[[Answer], Awaitable[Response]]
    explain: bool = False
    tensors: bool = False

"""What the victims said of the images of late: for the audit, and for nobody else.

An answer behind a defense does not tell how sure the victim was, and that is what tells queries
from the model's own distribution from others. It is kept here, from the engine to the audit, under
keyed hashes of the images.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from server.seeds import query_seeds

__all__ = ["Evidence"]

CONTEXT = "audit"
"""Keeps these hashes apart from the seeds of defenses, which must not be written anywhere."""

MOST = 65_536
"""Answers that are remembered: those being given, and some more."""


class Evidence:
    """The highest probability that each victim gave to each image of late. Thread-safe.

    Args:
        secret: the server's.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._lock = threading.Lock()
        self._seen: OrderedDict[tuple[str, str], float | None] = OrderedDict()

    def names(self, images: NDArray[np.uint8]) -> list[str]:
        """A keyed hash of each of ``images`` ``(n, C, H, W)``: 63 bits of HMAC-SHA256, in hex."""
        return [f"{seed:016x}" for seed in query_seeds(self._secret, CONTEXT, images).tolist()]

    def saw(
        self, weights: str, images: NDArray[np.uint8], confidences: NDArray[np.float32]
    ) -> None:
        """Remember the ``confidences`` ``(n,)`` that a victim had in its first labels.

        Args:
            weights: ``NAME/VERSION`` of the bundle whose weights answered: another victim is as
                sure of the same image as it may be.
            images: ``(n, C, H, W)``.
            confidences: ``(n,)``.
        """
        names = self.names(images)
        with self._lock:
            for name, confidence in zip(names, confidences.tolist(), strict=True):
                # A victim that overflows is sure of nothing, and a NaN is no JSON.
                sure = round(confidence, 3) if math.isfinite(confidence) else None
                self._seen[weights, name] = sure
                self._seen.move_to_end((weights, name))
            while len(self._seen) > MOST:
                self._seen.popitem(last=False)

    def of(self, weights: str, names: Sequence[str]) -> list[float | None]:
        """How sure ``weights`` were of each of ``names``; None where not asked of late."""
        with self._lock:
            return [self._seen.get((weights, name)) for name in names]

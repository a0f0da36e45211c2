"""Where images stand among others, by what they show."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["places"]


def places(images: NDArray[np.uint8], among: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The first place in ``among`` ``(N, C, H, W)`` of each of ``images``; -1 where it is not.

    Returns:
        ``(M,)`` int64.
    """
    first: dict[bytes, int] = {}
    for place, image in enumerate(among):
        first.setdefault(image.tobytes(), place)
    found = (first.get(image.tobytes(), -1) for image in images)
    return np.fromiter(found, dtype=np.int64, count=len(images))

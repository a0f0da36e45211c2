"""Answers that are at hand for an image, wherever it was asked about: nobody pays twice."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from attack_client.transfer_set import TransferSet

__all__ = ["KnownAnswers"]

CHUNK = 4096
"""Images read from disk at a time."""


class KnownAnswers:
    """Positions of a transfer set by the image that was asked about there.

    Args:
        transfer_set: open; what it holds is read when it is first looked up.
    """

    def __init__(self, transfer_set: TransferSet) -> None:
        self._transfer_set = transfer_set
        self._positions: dict[bytes, int] | None = None

    def split(
        self, start: int, images: NDArray[np.uint8]
    ) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """What of ``images`` ``(n, C, H, W)`` must be asked, and what is known.

        Args:
            start: position of the first; none of them has an answer yet.
            images: uint8.

        Returns:
            The runs ``(position, count)`` that must be asked, of images that differ from all
            before them; and pairs ``(position, position of the equal image)``.
        """
        known = self._known()
        runs: list[tuple[int, int]] = []
        copies: list[tuple[int, int]] = []
        for position, image in enumerate(images, start):
            first = known.setdefault(_digest(image), position)
            if first != position:
                copies.append((position, first))
            elif runs and sum(runs[-1]) == position:
                runs[-1] = (runs[-1][0], runs[-1][1] + 1)
            else:
                runs.append((position, 1))
        return runs, copies

    def _known(self) -> dict[bytes, int]:
        if self._positions is None:
            self._positions = {}
            for position, image in self._recorded():
                self._positions.setdefault(_digest(image), position)
        return self._positions

    def _recorded(self) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        for start, count in self._transfer_set.runs():
            for first in range(start, start + count, CHUNK):
                size = min(CHUNK, start + count - first)
                images, _ = self._transfer_set.answers(first, size)
                yield from enumerate(images, first)


def _digest(image: NDArray[np.uint8]) -> bytes:
    return hashlib.blake2b(image.tobytes(), digest_size=16).digest()

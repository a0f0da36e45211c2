"""The answers of a transfer set that are on disk: which there are, and what they say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attack_client import records
from attack_client.errors import TransferSetError
from attack_client.positions import Positions
from attack_client.provenance import Provenance

__all__ = ["RecordedAnswers"]

_Record = tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32] | None]


class RecordedAnswers:
    """What is recorded in a directory, by position; what is there is never changed.

    Args:
        path: the directory.
        provenance: what this theft is.
        descriptor: the file of records, open to be read. Whoever opened it closes it.
    """

    def __init__(self, path: Path, provenance: Provenance, descriptor: int) -> None:
        self.path = path
        self.provenance = provenance
        self._layout = records.Layout(
            shape=provenance.shape, classes=provenance.classes, maps=provenance.maps
        )
        self._descriptor = descriptor
        self._positions = Positions()

    def missing(self, start: int, count: int) -> tuple[tuple[int, int], ...]:
        """The runs ``(start, count)`` within a range that have no answer yet, in order."""
        return self._positions.missing(start, count)

    def runs(self) -> tuple[tuple[int, int], ...]:
        """The runs ``(start, count)`` of positions that have answers, in order."""
        return self._positions.runs()

    def answers(self, start: int, count: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Images ``(count, C, H, W)`` and probabilities ``(count, K)`` in order of position.

        Raises:
            TransferSetError: some of them have no answer.
        """
        images = np.empty((count, *self._layout.shape), dtype=np.uint8)
        probabilities = np.empty((count, self._layout.classes), dtype=np.float32)
        for there, here, (asked, said, _) in self._parts(start, count):
            images[there], probabilities[there] = asked[here], said[here]
        return images, probabilities

    def maps(self, start: int, count: int) -> NDArray[np.float32]:
        """Attribution maps ``(count, h, w)`` in order of position.

        Raises:
            TransferSetError: some of them have no answer, or this set keeps no maps.
        """
        if self._layout.maps is None:
            raise TransferSetError(f"{self.path} keeps no attribution maps")
        found = np.empty((count, *self._layout.maps), dtype=np.float32)
        for there, here, (_, _, maps) in self._parts(start, count):
            assert maps is not None
            found[there] = maps[here]
        return found

    def prefix(self, budget: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """The first ``budget`` images and answers: what a smaller theft would have had.

        Returns:
            Images ``(budget, C, H, W)`` and probabilities ``(budget, K)``.

        Raises:
            TransferSetError: some of them have no answer.
        """
        return self.answers(0, budget)

    @property
    def recorded(self) -> int:
        """Answers on disk."""
        return self._positions.recorded

    @property
    def complete(self) -> int:
        """The longest prefix without a gap: every budget up to it can be evaluated."""
        return self._positions.missing(0, self._positions.end + 1)[0][0]

    def _parts(self, start: int, count: int) -> Iterator[tuple[slice, slice, _Record]]:
        """The records that hold a range: where each lies in it, which part of it, and itself."""
        gaps = self.missing(start, count)
        if gaps:
            raise TransferSetError(
                f"{self.path} has no answer at position {gaps[0][0]}: "
                f"{start + count} were asked for, {self.recorded} are there"
            )
        for entry in self._positions.entries(start, count):
            first, last = max(entry.start, start), min(entry.start + entry.count, start + count)
            here = slice(first - entry.start, last - entry.start)
            record = records.read(self._layout, self._descriptor, entry)
            yield slice(first - start, last - start), here, record

    def _refuse_overlap(self, entry: records.Entry) -> None:
        if self._positions.taken(entry):
            raise TransferSetError(
                f"{self.path} has answers at positions {entry.start} to "
                f"{entry.start + entry.count - 1} twice"
            )

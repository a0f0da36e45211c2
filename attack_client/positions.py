"""Which positions of a theft have an answer, and in which record."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from attack_client.records import Entry

__all__ = ["Positions"]

NONE = -1


class Positions:
    """An index of records by the positions that they answer; holds no answer itself."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._where = np.full(1024, NONE, dtype=np.int64)
        self.recorded = 0
        """Positions that have an answer."""

    @property
    def end(self) -> int:
        """A position from which on there is no answer."""
        return len(self._where)

    def count(self, end: int) -> int:
        """Positions below ``end`` that have an answer."""
        return int((self._where[:end] != NONE).sum())

    def missing(self, start: int, count: int) -> tuple[tuple[int, int], ...]:
        """The runs ``(start, count)`` within a range that have no answer yet, in order."""
        absent = np.ones(count, dtype=np.int8)
        known = self._where[start : start + count]
        absent[: len(known)] = known == NONE
        edges = np.flatnonzero(np.diff(absent, prepend=0, append=0))
        runs = edges.reshape(-1, 2)
        return tuple((start + int(first), int(last - first)) for first, last in runs)

    def runs(self) -> tuple[tuple[int, int], ...]:
        """The runs ``(start, count)`` of positions that have answers, in order."""
        there = np.concatenate([[0], (self._where != NONE).astype(np.int8), [0]])
        edges = np.flatnonzero(np.diff(there)).reshape(-1, 2)
        return tuple((int(first), int(last - first)) for first, last in edges)

    def entries(self, start: int, count: int) -> Iterator[Entry]:
        """The records that hold answers at ``start .. start + count``, which all have one."""
        for number in np.unique(self._where[start : start + count]):
            yield self._entries[number]

    def taken(self, entry: Entry) -> bool:
        """Whether one of its positions has an answer already."""
        return bool((self._where[entry.start : entry.start + entry.count] != NONE).any())

    def add(self, entry: Entry) -> None:
        """Another record, at positions that are free."""
        end = entry.start + entry.count
        if end > len(self._where):
            grown = np.full(max(end, 2 * len(self._where)), NONE, dtype=np.int64)
            grown[: len(self._where)] = self._where
            self._where = grown
        self._where[entry.start : end] = len(self._entries)
        self._entries.append(entry)
        self.recorded += entry.count

"""What was sent: one line ``start count milliseconds`` per request, written before it leaves.

``milliseconds`` is Unix time. A line that ends in ``=`` was not sent: its images had answers, at
other positions, and those were written down again.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from attack_client.appending import append
from attack_client.errors import TransferSetError

__all__ = ["PAUSE_S", "Journal"]

PAUSE_S = 300.0
"""A longer gap is a pause between runs, or the wait of one that was told to be patient."""

COPIED = "="


@dataclass(frozen=True, slots=True)
class _Line:
    start: int
    count: int
    at_ms: int | None
    copied: bool

    def within(self, end: int) -> int:
        """Its samples at positions below ``end``."""
        return max(0, min(self.start + self.count, end) - self.start)


class Journal:
    """The requests of a theft, in memory and in ``sent.log``.

    It is not forced to disk: a kill loses nothing of it, a power cut its last lines, and then the
    report states too few resent samples, never a wrong answer.

    Args:
        path: of the file; a missing one is an empty one.

    Raises:
        TransferSetError: a whole line is not one. What follows the last line end was cut off by a
            kill and is ignored.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        data = path.read_bytes() if path.exists() else b""
        self.size = data.rfind(b"\n") + 1
        """Bytes of whole lines."""
        self._lines = [_line(line, path) for line in data[: self.size].splitlines()]
        self._earlier: dict[int, list[int]] = {}
        for line in self._lines:
            if not line.copied:
                self._earlier.setdefault(line.start, []).append(line.count)

    def add(self, descriptor: int, start: int, count: int, *, copied: bool = False) -> None:
        """Write that positions ``start .. start + count`` are about to be sent, or are copied.

        Raises:
            TransferSetError: the disk refuses; the file then ends as it did before.
        """
        line = _Line(start, count, time.time_ns() // 1_000_000, copied)
        mark = f" {COPIED}" if copied else ""
        try:
            end = os.fstat(descriptor).st_size
            try:
                append(descriptor, f"{line.start} {line.count} {line.at_ms}{mark}\n".encode())
            except OSError:
                os.ftruncate(descriptor, end)
                raise
        except OSError as error:
            raise TransferSetError(f"cannot write {self._path}: {error.strerror}") from error
        self._lines.append(line)

    def earlier(self, start: int) -> Sequence[int]:
        """Samples of each request at ``start`` that was sent before this was read, in order."""
        return self._earlier.get(start, ())

    def samples(self, end: int) -> int:
        """Samples sent at positions below ``end``, each as often as it was sent."""
        return sum(line.within(end) for line in self._lines if not line.copied)

    def copied(self, end: int) -> int:
        """Positions below ``end`` that were answered by the answer to an equal image."""
        # A copy that a kill kept from the records is written down twice.
        copied = (line for line in self._lines if line.copied)
        return len(
            {at for line in copied for at in range(line.start, min(line.start + line.count, end))}
        )

    def times(self, end: int) -> list[float]:
        """When requests for positions below ``end`` were sent, Unix seconds, in order."""
        return sorted(
            line.at_ms / 1000
            for line in self._lines
            if line.at_ms is not None and not line.copied and line.start < end
        )

    def seconds(self, end: int) -> float | None:
        """From the first request for positions below ``end`` to the last, without pauses.

        None where no time is written down.
        """
        times = self.times(end)
        if not times:
            return None
        gaps = (later - earlier for earlier, later in itertools.pairwise(times))
        return sum(gap for gap in gaps if gap <= PAUSE_S)


def _line(line: bytes, path: Path) -> _Line:
    try:
        start, count, *rest = line.decode().split()
        if len(rest) > 2 or rest[1:] not in ([], [COPIED]):
            raise ValueError(line)
        # A theft that was begun by an earlier version has no times.
        at_ms = int(rest[0]) if rest else None
        return _Line(int(start), int(count), at_ms, copied=len(rest) == 2)
    except ValueError as error:
        raise TransferSetError(
            f"{path} has a line that is not 'start count milliseconds'"
        ) from error

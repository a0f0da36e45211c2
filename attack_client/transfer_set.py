"""The transfer set on disk: what was asked, what was answered, and nothing lost by a kill.

A directory of three files::

    meta.json     what this theft is; written once, checked whenever it goes on
    records.bin   the answers, one checked record per request (see ``records``)
    sent.log      one line per request, written before it is sent (see ``journal``)

An answer counts as had once its record is on disk. Whatever ``sent.log`` holds beyond
``records.bin`` was sent again, or in flight at a kill: it may have been charged for nothing.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from attack_client import records
from attack_client.appending import append
from attack_client.errors import TransferSetError
from attack_client.journal import Journal
from attack_client.provenance import Provenance
from attack_client.recorded_answers import RecordedAnswers
from attack_client.transfer_files import (
    META,
    RECORDS,
    SENT,
    begun,
    open_new,
    open_old,
    open_to_read,
)

__all__ = ["TransferSet"]


class TransferSet(RecordedAnswers):
    """An open transfer set: ``create`` a new one, ``resume`` an old one, or just ``read`` it.

    Appending is safe from several threads; one process at a time may write.

    Attributes:
        path: the directory.
        provenance: what this theft is.
        repaired: bytes of a torn last record that ``resume`` cut off.
        torn: bytes of a torn last record that are still there, or are being written just now.
    """

    def __init__(self, path: Path, provenance: Provenance, descriptor: int, journal: int) -> None:
        """Use ``create``, ``resume`` or ``read``."""
        super().__init__(path, provenance, descriptor)
        self.repaired = 0
        self.torn = 0
        self._journal = journal
        self._lock = threading.Lock()
        # Of its own: what is about to be sent must not wait until an answer is on the disk.
        self._journal_lock = threading.Lock()
        self._sent = Journal(path / SENT)

    @staticmethod
    def begun(path: Path) -> bool:
        """Whether ``path`` holds a transfer set for which something was sent."""
        return begun(path)

    @staticmethod
    def provenance_of(path: Path) -> Provenance:
        """Where the transfer set in ``path`` comes from.

        Raises:
            TransferSetError: there is none.
        """
        return Provenance.read(path / META)

    @classmethod
    def create(cls, path: Path, provenance: Provenance) -> Self:
        """Begin a transfer set in the directory ``path``, which is made where it is missing.

        One that never got so far as to send anything is replaced.

        Raises:
            TransferSetExists: there is one already.
            TransferSetLocked: another process is writing there.
        """
        descriptor, journal = open_new(path, provenance)
        return cls(path, provenance, descriptor, journal)

    @classmethod
    def resume(cls, path: Path, provenance: Provenance) -> Self:
        """Open a transfer set for more answers; cuts off a torn last record.

        Args:
            path: the directory.
            provenance: what is to go on; its id is ignored, the one on disk stays.

        Raises:
            TransferSetError: nothing there, or it belongs to another theft.
            TransferSetLocked: another process is writing it.
            CorruptRecord: damage before the last record.
        """
        found = Provenance.read(path / META)
        differences = found.differences(provenance)
        if differences:
            raise TransferSetError(
                f"{path} belongs to another theft: "
                + "; ".join(f"{name} was {old}, not {new}" for name, old, new in differences)
            )
        descriptor, journal = open_old(path)
        transfer_set = cls(path, found, descriptor, journal)
        try:
            transfer_set._load(repair=True)
        except BaseException:
            transfer_set.close()
            raise
        return transfer_set

    @classmethod
    def read(cls, path: Path) -> Self:
        """Open a transfer set to look at it, even while a theft is writing it.

        Raises:
            TransferSetError: nothing there.
            CorruptRecord: damage before the last record.
        """
        provenance = Provenance.read(path / META)
        descriptor = open_to_read(path)
        transfer_set = cls(path, provenance, descriptor, -1)
        try:
            transfer_set._load(repair=False)
        except BaseException:
            transfer_set.close()
            raise
        return transfer_set

    def append(
        self,
        start: int,
        images: NDArray[np.uint8],
        probabilities: NDArray[np.float32],
        maps: NDArray[np.float32] | None = None,
    ) -> None:
        """Record the answers to ``images`` at positions ``start ..``; returns once on disk.

        Maps ``(n, h, w)`` go with them where this set keeps maps, and only there.

        Raises:
            TransferSetError: something is recorded there already, the shapes are wrong, or the
                disk refuses.
        """
        record = records.encode(self._layout, start, images, probabilities, maps)
        with self._lock:
            if self._journal < 0:
                raise TransferSetError(f"{self.path} is not open for writing")
            offset = os.fstat(self._descriptor).st_size
            entry = records.Entry(start=start, count=len(images), offset=offset)
            self._refuse_overlap(entry)
            try:
                append(self._descriptor, record)
                os.fsync(self._descriptor)
            except OSError as error:
                os.ftruncate(self._descriptor, offset)
                raise TransferSetError(
                    f"cannot write {self.path / RECORDS}: {error.strerror}"
                ) from error
            self._positions.add(entry)

    def note_sent(self, start: int, count: int) -> None:
        """Journal that positions ``start .. start + count`` are about to be sent.

        Raises:
            TransferSetError: the disk refuses.
        """
        with self._journal_lock:
            self._sent.add(self._journal, start, count)

    def note_copied(self, start: int, count: int) -> None:
        """Journal that positions ``start .. start + count`` are answered from disk.

        Raises:
            TransferSetError: the disk refuses.
        """
        with self._journal_lock:
            self._sent.add(self._journal, start, count, copied=True)

    def sent_earlier(self, start: int) -> Sequence[int]:
        """Samples of each request at ``start`` that an earlier run sent, answered or not."""
        return self._sent.earlier(start)

    def sent(self, budget: int | None = None) -> int:
        """Samples sent for the first ``budget`` positions, again and in vain included."""
        end = self._positions.end if budget is None else budget
        answered = self._positions.count(end)
        return max(self._sent.samples(end), answered - self._sent.copied(end))

    def paid(self, budget: int) -> int:
        """Of the first ``budget`` answers, those that were asked for and not copied."""
        return budget - min(budget, self._sent.copied(budget))

    def seconds(self, budget: int) -> float | None:
        """How long the first ``budget`` positions took to ask, pauses left out, if it is known."""
        return self._sent.seconds(budget)

    def asked_at(self) -> tuple[float, float] | None:
        """When the first and the last request were sent, Unix seconds, if it is known."""
        times = self._sent.times(self._positions.end)
        return (times[0], times[-1]) if times else None

    def close(self) -> None:
        """Release the files and the lock; does nothing the second time."""
        with self._lock, self._journal_lock:
            for descriptor in (self._descriptor, self._journal):
                if descriptor >= 0:
                    os.close(descriptor)
            self._descriptor = self._journal = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _load(self, *, repair: bool) -> None:
        path = self.path / RECORDS
        entries, end = records.scan(self._layout, path)
        for entry in entries:
            self._refuse_overlap(entry)
            self._positions.add(entry)
        self.torn = max(0, os.fstat(self._descriptor).st_size - end)
        if repair:
            self.torn = 0
            self.repaired = os.fstat(self._descriptor).st_size - end
            os.ftruncate(self._descriptor, end)
            os.ftruncate(self._journal, self._sent.size)

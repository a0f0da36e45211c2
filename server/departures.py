"""What waits and when it leaves: the part of batching that two threads touch, behind one lock.

Requests come from the event loop; whoever computes takes batches from a thread of its own. Nothing
is computed, awaited or counted while the lock is held.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic

from server.batches import Batch, Group
from server.pace import Pace
from server.settings import BatchingSettings
from server.waiting import Item, WaitingLine

__all__ = ["Departures", "Due", "Later"]

TICK_S = 0.0005
"""How early a timer of the event loop may fire."""


@dataclass(frozen=True, slots=True)
class Due(Generic[Group]):
    """A batch is to leave now.

    Attributes:
        group: what all of it belongs to.
        released: why now: ``full``, ``busy``, ``idle`` or ``waited``.
    """

    group: Group
    released: str


@dataclass(frozen=True, slots=True)
class Later:
    """Something waits, and nothing of it leaves yet.

    Attributes:
        seconds: after which to ask again.
    """

    seconds: float


class Departures(Generic[Group]):
    """Items that wait, in groups, and the batches they leave in.

    Somebody *takes* from the moment that ``depart`` has said ``Due`` until ``take`` finds nothing.

    Args:
        settings: how large a batch may be, and how long an idle engine waits for one to fill.
        pace: told how long each batch took.
    """

    def __init__(self, settings: BatchingSettings, pace: Pace) -> None:
        self._settings = settings
        self._pace = pace
        self._lock = threading.Lock()
        # From here on: guarded by the lock.
        self._line: WaitingLine[Group] = WaitingLine()
        self._halves: deque[Batch[Group]] = deque()
        self._taking = False
        self._became_free = False
        self._computing = 0
        self._hurried = False

    @property
    def waiting(self) -> int:
        """Samples that wait."""
        return self._line.samples

    @property
    def computing(self) -> int:
        """Samples of the batch that is being computed."""
        return self._computing

    def add(self, group: Group, items: Iterable[Item]) -> None:
        """Put ``items`` at the end of ``group``."""
        with self._lock:
            for item in items:
                self._line.add(group, item)

    def withdraw(self, items: Iterable[Item]) -> None:
        """Take out those of ``items`` that still wait."""
        with self._lock:
            for item in items:
                self._line.discard(item)

    def forget(self) -> None:
        """Take out everything: nobody waits any more."""
        with self._lock:
            self._line = WaitingLine()
            self._halves.clear()

    def hurry(self) -> None:
        """Wait for no batch to fill from now on."""
        self._hurried = True

    def depart(self) -> Due[Group] | Later | None:
        """What the caller must now have somebody take, or when to ask again.

        None if nothing waits, or somebody takes already.
        """
        with self._lock:
            if self._taking:
                return None
            due = self._due(after_work=False)
            self._taking = isinstance(due, Due)
            return due

    def take(self) -> tuple[Batch[Group] | None, bool]:
        """The next batch, if one is due; and if none is, whether something waits all the same."""
        with self._lock:
            after_work, self._became_free = self._became_free, False
            batch = self._next_half() or self._next(after_work)
            self._taking = batch is not None
            self._computing = batch.samples if batch is not None else 0
            return batch, batch is None and self._line.samples > 0

    def returned(self, batch: Batch[Group], *, took_s: float, again: bool) -> None:
        """Note that ``batch`` is computed; ``again``: that its halves are to be."""
        with self._lock:
            self._became_free = True
            self._pace.computed(took_s)
            if again:
                self._halves.extend(batch.halves())

    def _due(self, *, after_work: bool) -> Due[Group] | Later | None:
        """The group to compute next and why now; or when to ask again; or None if none waits."""
        wait_s = 0.0 if self._hurried else self._settings.max_wait_ms / 1000
        soonest: float | None = None
        for group, oldest, samples in self._line:
            if samples >= self._settings.max_batch_size:
                return Due(group, "full")
            if wait_s == 0.0:
                return Due(group, "busy" if after_work else "idle")
            # From the first query on: a base that moved with later ones would never end.
            left_s = oldest.accepted + wait_s - time.perf_counter()
            if left_s <= TICK_S:
                return Due(group, "waited")
            soonest = left_s if soonest is None else min(soonest, left_s)
        return None if soonest is None else Later(soonest)

    def _next_half(self) -> Batch[Group] | None:
        while self._halves:
            half = self._halves.popleft()
            items = [item for item in half.items if _alive(item)]
            if items:
                return Batch(half.group, items, None, time.perf_counter())
        return None

    def _next(self, after_work: bool) -> Batch[Group] | None:
        while isinstance(due := self._due(after_work=after_work), Due):
            taken = self._line.take(due.group, self._settings.max_batch_size)
            items = [item for item in taken if _alive(item)]
            if items:
                return Batch(due.group, items, due.released, time.perf_counter())
        return None


def _alive(item: Item) -> bool:
    """Whether anybody still waits for it."""
    return not item.ticket.over and item.ticket.deadline > time.perf_counter()

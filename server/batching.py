"""Dynamic batching: queries wait, are grouped, are shed; the engine is never idle for their sake.

When the engine is idle a query leaves at once. While it is busy queries gather, and the next
batch takes all that waited, of the group that waited longest, up to ``max_batch_size`` samples.

Requests live on one event loop. Whoever computes takes the batches from here, in a thread of its
own, so that a loop that is busy does not leave the engine idle. A lock guards what both touch;
nothing is computed, awaited or counted while it is held.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic

import numpy as np
from numpy.typing import NDArray

from server.batches import Batch, Batches, Computed, Group, checked
from server.dataplane import Explained
from server.errors import DeadlinePassed, Draining, InternalFailure, QueueFull, ServiceError
from server.metrics import Metrics
from server.pace import Pace
from server.settings import BatchingSettings
from server.waiting import Filled, Item, Ticket, WaitingLine

__all__ = ["Batcher"]

logger = logging.getLogger(__name__)

IN_TIME = 0.5
"""Share of its deadline that a request may be expected to take; the rest is for being wrong."""

TICK_S = 0.0005
"""How early a timer of the event loop may fire."""


class Batcher(Generic[Group]):
    """Turns requests into batches of one group each, and batches into answers.

    A group is what can be computed together: one victim and its chain.

    Args:
        begin: has somebody take batches until there is none. Called on the event loop, and never
            while somebody still takes.
        settings: sizes and times.
        metrics: told of every request and batch.
    """

    def __init__(
        self,
        begin: Callable[[Batches[Group]], None],
        *,
        settings: BatchingSettings,
        metrics: Metrics,
    ) -> None:
        self._begin = begin
        self._settings = settings
        self._metrics = metrics
        self._pace = Pace()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tickets: set[Ticket] = set()
        self._everybody_answered = asyncio.Event()
        self._everybody_answered.set()
        self._pump_is_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._draining = False
        self._lock = threading.Lock()
        # From here on: guarded by the lock.
        self._line: WaitingLine[Group] = WaitingLine()
        self._halves: deque[Batch[Group]] = deque()
        self._taking = False
        self._became_free = False
        self._computing = 0

    async def submit(
        self, group: Group, images: NDArray[np.uint8], *, timeout_s: float
    ) -> NDArray[np.float32]:
        """Probabilities ``(n, K)`` of ``images`` ``(n, C, H, W)``, n at least 1.

        A request of more than ``max_batch_size`` samples is computed in several batches. It is
        accepted as a whole or not at all, and answered when all of it is there. Cancelling the
        awaiting task withdraws what has not begun.

        Raises:
            QueueFull: n more samples do not fit, or would take more than half of ``timeout_s`` at
                the pace of late; an idle engine refuses nobody.
            Draining: no more requests are accepted, or the drain took too long.
            DeadlinePassed: not computed within ``timeout_s``.
            InternalFailure: the computation failed for this request.
        """
        return (await self._wait(group, images, timeout_s)).probabilities

    async def explain(
        self, group: Group, images: NDArray[np.uint8], *, timeout_s: float, cost: int
    ) -> Explained:
        """As ``submit``, with a map for each image; an image counts as ``cost`` samples.

        Raises:
            ServiceError: those of ``submit``.
        """
        filled = await self._wait(group, images, timeout_s, explain=True, cost=cost)
        assert filled.attributions is not None
        return Explained(filled.probabilities, filled.attributions)

    async def _wait(
        self,
        group: Group,
        images: NDArray[np.uint8],
        timeout_s: float,
        *,
        explain: bool = False,
        cost: int = 1,
    ) -> Filled:
        refusal = self.refusal(len(images) * cost, timeout_s)
        if refusal is not None:
            raise refusal
        ticket = self._accept(group, images, timeout_s, explain=explain, cost=cost)
        try:
            async with asyncio.timeout(timeout_s):
                return await ticket.future
        except TimeoutError:
            raise DeadlinePassed(f"not computed within {timeout_s:g} s") from None
        finally:
            self._close(ticket)

    def refusal(self, samples: int, timeout_s: float) -> ServiceError | None:
        """Why a request of ``samples`` with that deadline would be refused now, if it would."""
        if self._draining:
            return Draining(retry_after=1.0)
        full = self._line.samples + samples > self._settings.queue_samples
        # Accepted, a late one would wait out its deadline, and push others past theirs.
        if full or self._seconds_until_answered(samples) > IN_TIME * timeout_s:
            return QueueFull(retry_after=self._seconds_until_room())
        return None

    async def drain(self, timeout_s: float) -> bool:
        """Accept nothing more; wait until everything accepted is answered.

        Returns:
            Whether that took less than ``timeout_s``; what was not answered by then has failed
            with ``Draining``.
        """
        self._draining = True
        self._pump()
        try:
            async with asyncio.timeout(timeout_s):
                await self._everybody_answered.wait()
        except TimeoutError:
            for ticket in tuple(self._tickets):
                self._fail(ticket, Draining("the server stopped before this was computed"))
            await self._everybody_answered.wait()
            return False
        return True

    # -- requests, on the event loop -----------------------------------------------------------

    def _accept(
        self,
        group: Group,
        images: NDArray[np.uint8],
        timeout_s: float,
        *,
        explain: bool,
        cost: int,
    ) -> Ticket:
        self._loop = asyncio.get_running_loop()
        now = time.perf_counter()
        ticket = Ticket(self._loop.create_future(), len(images), now + timeout_s)
        step = max(1, self._settings.max_batch_size // cost)
        for start in range(0, len(images), step):
            part = images[start : start + step]
            ticket.items.append(Item(ticket, part, start, now, explain=explain, cost=cost))
        with self._lock:
            for item in ticket.items:
                self._line.add(group, item)
        self._tickets.add(ticket)
        self._everybody_answered.clear()
        self._metrics.accepted(ticket.samples)
        self._metrics.queued(self._line.samples)
        if not self._pump_is_due:
            # Not now but at the end of this turn of the loop: what arrives in it goes together.
            self._pump_is_due = True
            self._loop.call_soon(self._pump)
        return ticket

    def _close(self, ticket: Ticket) -> None:
        if not ticket.future.cancel() and not ticket.future.cancelled():
            ticket.future.exception()  # seen, although a caller that just left will not read it
        self._withdraw(ticket)
        self._tickets.discard(ticket)
        self._metrics.settled(ticket.samples)
        if not self._tickets:
            self._everybody_answered.set()

    def _fail(self, ticket: Ticket, error: ServiceError) -> None:
        if not ticket.future.done():
            ticket.future.set_exception(error)
        self._withdraw(ticket)

    def _withdraw(self, ticket: Ticket) -> None:
        ticket.over = True
        with self._lock:
            for item in ticket.items:
                self._line.discard(item)
        self._metrics.queued(self._line.samples)

    def _seconds_until_room(self) -> float:
        waiting = self._pace.forecast(self._batches(self._line.samples))
        return min(max(waiting, 0.1), self._settings.deadline_s)

    def _seconds_until_answered(self, samples: int) -> float:
        """What is ahead of ``samples`` more, and they themselves, at the pace of late."""
        waiting, computing = self._line.samples, self._computing
        if waiting + computing == 0:
            return 0.0
        return self._pace.forecast(bool(computing) + self._batches(waiting + samples))

    def _batches(self, samples: int) -> int:
        return math.ceil(samples / self._settings.max_batch_size)

    # -- batches leave -------------------------------------------------------------------------

    def _pump(self) -> None:
        """Have the next batch taken if nobody takes and one is due; else look again in time."""
        self._pump_is_due = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        with self._lock:
            if self._taking:
                return
            due = self._due(after_work=False)
            self._taking = isinstance(due, tuple)
        if isinstance(due, float):
            self._timer = asyncio.get_running_loop().call_later(due, self._pump)
        elif due is not None:
            self._begin(self)

    def _due(self, *, after_work: bool) -> tuple[Group, str] | float | None:
        """The group to compute next and why now; or in how many seconds; or None if none waits."""
        wait_s = 0.0 if self._draining else self._settings.max_wait_ms / 1000
        soonest: float | None = None
        for group, oldest, samples in self._line:
            if samples >= self._settings.max_batch_size:
                return group, "full"
            if wait_s == 0.0:
                return group, "busy" if after_work else "idle"
            # From the first query on: a base that moved with later ones would never end.
            left_s = oldest.accepted + wait_s - time.perf_counter()
            if left_s <= TICK_S:
                return group, "waited"
            soonest = left_s if soonest is None else min(soonest, left_s)
        return soonest

    def take(self) -> Batch[Group] | None:
        """See ``Batches``."""
        with self._lock:
            after_work, self._became_free = self._became_free, False
            batch = self._next_half() or self._next(after_work)
            self._taking = batch is not None
            self._computing = batch.samples if batch is not None else 0
            somebody_waits = self._line.samples > 0
        if batch is None and somebody_waits:
            self._on_loop(self._pump)
        return batch

    def _next_half(self) -> Batch[Group] | None:
        while self._halves:
            half = self._halves.popleft()
            items = [item for item in half.items if _alive(item)]
            if items:
                return Batch(half.group, items, None, time.perf_counter())
        return None

    def _next(self, after_work: bool) -> Batch[Group] | None:
        while isinstance(due := self._due(after_work=after_work), tuple):
            group, released = due
            taken = self._line.take(group, self._settings.max_batch_size)
            items = [item for item in taken if _alive(item)]
            if items:
                return Batch(group, items, released, time.perf_counter())
        return None

    # -- and come back -------------------------------------------------------------------------

    def done(self, batch: Batch[Group], outcome: Computed | Exception) -> None:
        """See ``Batches``. What failed together is halved until only the guilty fail."""
        finished = time.perf_counter()
        explained = any(item.explain for item in batch.items)
        outcome = checked(outcome, batch.samples, explained=explained)
        # A chain that fails as a whole marks every row, so that too may be one row's doing.
        failed = isinstance(outcome, Exception) or bool(outcome.failed.all())
        again = failed and len(batch.items) > 1
        if isinstance(outcome, Computed) and not again:
            for item, rows in batch.rows():
                # Known now: the rest of such a request need not be computed. Set, never reset: the
                # event loop may be setting it too.
                if outcome.failed[rows].any():
                    item.ticket.over = True
        with self._lock:
            self._became_free = True
            self._pace.computed(finished - batch.began)
            if again:
                self._halves.extend(batch.halves())
        self._on_loop(self._settle, batch, outcome, again, finished)

    def _on_loop(self, callback: Callable[..., None], *args: object) -> None:
        try:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:  # the loop is closed: whoever waited is gone with it
            with self._lock:
                self._line = WaitingLine()
                self._halves.clear()

    def _settle(
        self, batch: Batch[Group], outcome: Computed | Exception, again: bool, finished: float
    ) -> None:
        try:
            self._pace.noticed(time.perf_counter() - finished)
            if isinstance(outcome, Exception):
                level = logging.WARNING if again else logging.ERROR
                requests = len(batch.items)
                logger.log(level, "%d requests could not be computed", requests, exc_info=outcome)
            elif not again:
                self._deliver(batch, outcome)
            self._count(batch, outcome, again)
        except Exception:
            logger.exception("a batch could not be settled")
        finally:
            for item in batch.items:
                if not again and not item.settled:  # nobody may be left waiting
                    self._fail(item.ticket, InternalFailure())

    def _deliver(self, batch: Batch[Group], computed: Computed) -> None:
        for item, rows in batch.rows():
            if computed.failed[rows].any():
                self._fail(item.ticket, InternalFailure())
            else:
                maps = computed.attributions if item.explain else None
                item.ticket.fill(
                    item, computed.probabilities[rows], None if maps is None else maps[rows]
                )

    def _count(self, batch: Batch[Group], outcome: Computed | Exception, again: bool) -> None:
        self._metrics.queued(self._line.samples)
        if batch.released is not None:
            self._metrics.batch(batch.released, batch.samples)
            for item in batch.items:
                self._metrics.waited(batch.began - item.accepted)
        if again:
            self._metrics.batch_failed()
        elif isinstance(outcome, Computed):
            self._metrics.failed_rows(int(outcome.failed.sum()))


def _alive(item: Item) -> bool:
    """Whether anybody still waits for it."""
    return not item.ticket.over and item.ticket.deadline > time.perf_counter()

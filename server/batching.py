"""Dynamic batching: queries wait, are grouped, are shed; the engine is never idle for their sake.

When the engine is idle a query leaves at once. While it is busy queries gather, and the next
batch takes all that waited, of the group that waited longest, up to ``max_batch_size`` samples.

Everything here runs on one event loop and keeps its state consistent between awaits, so there is
no lock, no polling, and no long-lived loop that an exception could end.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from server.errors import DeadlinePassed, Draining, InternalFailure, QueueFull, ServiceError
from server.metrics import Metrics
from server.settings import BatchingSettings
from server.waiting import Item, Ticket, WaitingLine

__all__ = ["Batcher", "Computed"]

logger = logging.getLogger(__name__)

Group = TypeVar("Group", bound=Hashable)


IN_TIME = 0.5
"""Share of its deadline that a request may be expected to take; the rest is for being wrong."""

TICK_S = 0.0005
"""How early a timer of the event loop may fire."""


@dataclass(frozen=True, slots=True)
class Computed:
    """What one batch of B samples yields.

    Attributes:
        probabilities: ``(B, K)`` float32.
        failed: ``(B,)`` bool: rows that must not be answered.
    """

    probabilities: NDArray[np.float32]
    failed: NDArray[np.bool_]


Compute = Callable[[Group, Sequence[NDArray[np.uint8]]], Awaitable[Computed]]
"""Computes the concatenation of some images; same length, same order. One call at a time."""


class Batcher(Generic[Group]):
    """Turns requests into batches of one group each, and batches into answers.

    A group is what can be computed together: one victim and its chain.
    """

    def __init__(
        self, compute: Compute[Group], *, settings: BatchingSettings, metrics: Metrics
    ) -> None:
        self._compute = compute
        self._settings = settings
        self._metrics = metrics
        self._line: WaitingLine[Group] = WaitingLine()
        self._tickets: set[Ticket] = set()
        self._everybody_answered = asyncio.Event()
        self._everybody_answered.set()
        self._working: asyncio.Task[None] | None = None
        self._became_free = False
        self._pump_is_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._batch_s: float | None = None
        self._computing = 0
        self._draining = False

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
        refusal = self.refusal(len(images), timeout_s)
        if refusal is not None:
            raise refusal
        ticket = self._accept(group, images, timeout_s)
        try:
            async with asyncio.timeout_at(ticket.deadline):
                return await ticket.future
        except TimeoutError:
            raise _too_late(ticket) from None
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

    # -- requests ------------------------------------------------------------------------------

    def _accept(self, group: Group, images: NDArray[np.uint8], timeout_s: float) -> Ticket:
        loop = asyncio.get_running_loop()
        now = time.perf_counter()
        ticket = Ticket(loop.create_future(), len(images), timeout_s, loop.time() + timeout_s)
        for start in range(0, len(images), self._settings.max_batch_size):
            part = images[start : start + self._settings.max_batch_size]
            item = Item(ticket, part, start, now)
            ticket.items.append(item)
            self._line.add(group, item)
        self._tickets.add(ticket)
        self._everybody_answered.clear()
        self._metrics.accepted(ticket.samples)
        self._metrics.queued(self._line.samples)
        if not self._pump_is_due:
            # Not now but at the end of this turn of the loop: what arrives in it goes together.
            self._pump_is_due = True
            loop.call_soon(self._pump)
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
        for item in ticket.items:
            self._line.discard(item)
        self._metrics.queued(self._line.samples)

    def _seconds_until_room(self) -> float:
        if self._batch_s is None:
            return 1.0
        waiting = self._batches(self._line.samples) * self._batch_s
        return min(max(waiting, 0.1), self._settings.deadline_s)

    def _seconds_until_answered(self, samples: int) -> float:
        """What is ahead of ``samples`` more, and they themselves, at the pace of late.

        In batches, not samples: a batch of one takes nearly as long as a full one where the event
        loop is what is slow.
        """
        ahead = self._line.samples + self._computing
        if ahead == 0 or self._batch_s is None:
            return 0.0
        return (bool(self._computing) + self._batches(self._line.samples + samples)) * self._batch_s

    def _batches(self, samples: int) -> int:
        return math.ceil(samples / self._settings.max_batch_size)

    # -- batches -------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Start the next batch if the engine is free and one is due."""
        self._pump_is_due = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._working is None:
            due = self._next_due()
            if due is None:
                return
            group, released = due
            items = [
                item
                for item in self._line.take(group, self._settings.max_batch_size)
                if not self._expired(item)
            ]
            self._metrics.queued(self._line.samples)
            if items:
                self._start(group, items, released)

    def _next_due(self) -> tuple[Group, str] | None:
        """The group to compute next and why now; or None, with a timer set if somebody waits."""
        wait_s = 0.0 if self._draining else self._settings.max_wait_ms / 1000
        soonest: float | None = None
        for group, oldest, samples in self._line:
            if samples >= self._settings.max_batch_size:
                return group, "full"
            if wait_s == 0.0:
                return group, "busy" if self._became_free else "idle"
            # From the first query on: a base that moved with later ones would never end.
            left_s = oldest.accepted + wait_s - time.perf_counter()
            if left_s <= TICK_S:
                return group, "waited"
            soonest = left_s if soonest is None else min(soonest, left_s)
        if soonest is not None:
            self._timer = asyncio.get_running_loop().call_later(soonest, self._pump)
        return None

    def _expired(self, item: Item) -> bool:
        if item.ticket.deadline <= asyncio.get_running_loop().time():
            self._fail(item.ticket, _too_late(item.ticket))
        return item.ticket.future.done()

    def _start(self, group: Group, items: list[Item], released: str) -> None:
        # The computation begins here and not in the task's first step: before it, the event loop
        # would encode every answer of the batch before while the engine stood still.
        began = time.perf_counter()
        self._computing = sum(item.samples for item in items)
        computing = self._begin(group, items)
        self._working = asyncio.get_running_loop().create_task(
            self._work(group, items, computing, released, began)
        )

    def _begin(self, group: Group, items: Sequence[Item]) -> Awaitable[Computed] | Exception:
        try:
            return self._compute(group, [item.images for item in items])
        except Exception as error:
            return error

    async def _work(
        self,
        group: Group,
        items: Sequence[Item],
        computing: Awaitable[Computed] | Exception,
        released: str,
        began: float,
    ) -> None:
        samples = sum(item.samples for item in items)
        try:
            await self._resolve(group, items, computing)
            self._metrics.batch(released, samples)
            for item in items:
                self._metrics.waited(began - item.accepted)
        except Exception:
            logger.exception("a batch could not be settled")
        except asyncio.CancelledError:
            self._stop()
            raise
        finally:
            for item in items:
                if not item.settled:  # nobody may be left waiting, whatever happened above
                    self._fail(item.ticket, InternalFailure())
            took = time.perf_counter() - began
            self._computing = 0
            self._batch_s = took if self._batch_s is None else 0.8 * self._batch_s + 0.2 * took
            self._working = None
            self._became_free = True
            self._pump()
            self._became_free = False

    def _stop(self) -> None:
        """The event loop ends: nothing that waits will be computed."""
        self._draining = True
        for ticket in tuple(self._tickets):
            self._fail(ticket, Draining())

    async def _resolve(
        self,
        group: Group,
        items: Sequence[Item],
        computing: Awaitable[Computed] | Exception,
    ) -> None:
        """Answer ``items``. If they fail together, halve them until only the guilty fail."""
        try:
            if isinstance(computing, Exception):
                raise computing
            computed = await computing
            _check(computed, sum(item.samples for item in items))
        except Exception as error:
            if len(items) == 1:
                logger.error("a request could not be computed", exc_info=error)
                self._fail(items[0].ticket, InternalFailure())
                return
            logger.warning("a batch of %d requests failed: %s", len(items), error)
        else:
            # A chain that fails as a whole marks every row, so that too may be one row's doing.
            if len(items) == 1 or not computed.failed.all():
                self._deliver(items, computed)
                return
        self._metrics.batch_failed()
        half = len(items) // 2
        for part in (items[:half], items[half:]):
            live = [item for item in part if not self._expired(item)]
            if live:
                await self._resolve(group, live, self._begin(group, live))

    def _deliver(self, items: Sequence[Item], computed: Computed) -> None:
        self._metrics.failed_rows(int(computed.failed.sum()))
        stop = 0
        for item in items:
            start, stop = stop, stop + item.samples
            if computed.failed[start:stop].any():
                self._fail(item.ticket, InternalFailure())
            else:
                item.ticket.fill(item, computed.probabilities[start:stop])


def _too_late(ticket: Ticket) -> DeadlinePassed:
    return DeadlinePassed(f"not computed within {ticket.timeout_s:g} s")


def _check(computed: Computed, samples: int) -> None:
    probabilities, failed = computed.probabilities, computed.failed
    if probabilities.ndim != 2 or len(probabilities) != samples or failed.shape != (samples,):
        raise ValueError(
            f"a batch of {samples} samples yielded probabilities {probabilities.shape} "
            f"and marks {failed.shape}"
        )

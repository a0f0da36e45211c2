"""Dynamic batching: queries wait, are grouped, are shed; the engine is never idle for their sake.

When the engine is idle a query leaves at once. While it is busy queries gather, and the next
batch takes all that waited, of the group that waited longest, up to ``max_batch_size`` samples.

Requests live on one event loop. Whoever computes takes the batches from here, in a thread of its
own, so that a loop that is busy does not leave the engine idle. What both touch is in
``server.departures``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Generic

import numpy as np
from numpy.typing import NDArray

from server.batches import Batch, Batches, Computed, Group, checked
from server.dataplane import Explained
from server.departures import Departures, Due, Later
from server.errors import DeadlinePassed, Draining, InternalFailure, ServiceError
from server.forecast import Forecast
from server.metrics import Metrics
from server.pace import Pace
from server.settings import BatchingSettings
from server.waiting import Filled, Item, Ticket

__all__ = ["Batcher"]

logger = logging.getLogger(__name__)


class Batcher(Generic[Group]):
    """Turns requests into batches of one group each, and batches into answers.

    A group is what can be computed together: one victim and its chain.

    Args:
        begin: has somebody take batches until there is none. Called on the event loop, and never
            while somebody still takes.
        settings: sizes and times.
        metrics: told of every request and batch.
        executed: told of every batch that was computed, with what it yielded.
    """

    def __init__(
        self,
        begin: Callable[[Batches[Group]], None],
        *,
        settings: BatchingSettings,
        metrics: Metrics,
        executed: Callable[[Batch[Group], Computed], None] | None = None,
    ) -> None:
        self._begin = begin
        self._settings = settings
        self._metrics = metrics
        self._executed = executed
        self._pace = Pace()
        self._departures: Departures[Group] = Departures(settings, self._pace)
        self._forecast = Forecast(settings, self._departures, self._pace)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tickets: set[Ticket] = set()
        self._everybody_answered = asyncio.Event()
        self._everybody_answered.set()
        self._pump_is_due = False
        self._timer: asyncio.TimerHandle | None = None
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
        return self._forecast.refusal(samples, timeout_s)

    def seconds_until_room(self) -> float:
        """When a caller that is refused now may try again, at the pace of late."""
        return self._forecast.seconds_until_room()

    async def drain(self, timeout_s: float) -> bool:
        """Accept nothing more; wait until everything accepted is answered.

        Returns:
            Whether that took less than ``timeout_s``; what was not answered by then has failed
            with ``Draining``.
        """
        self._draining = True
        self._departures.hurry()
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
        self._departures.add(group, ticket.items)
        self._tickets.add(ticket)
        self._everybody_answered.clear()
        self._metrics.accepted(ticket.samples)
        self._metrics.queued(self._departures.waiting)
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
        self._departures.withdraw(ticket.items)
        self._metrics.queued(self._departures.waiting)

    # -- batches leave -------------------------------------------------------------------------

    def _pump(self) -> None:
        """Have the next batch taken if nobody takes and one is due; else look again in time."""
        self._pump_is_due = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._departures.depart()
        if isinstance(due, Due):
            self._begin(self)
        elif isinstance(due, Later):
            self._timer = asyncio.get_running_loop().call_later(due.seconds, self._pump)

    def take(self) -> Batch[Group] | None:
        """See ``Batches``."""
        batch, look_again = self._departures.take()
        if look_again:
            self._on_loop(self._pump)
        return batch

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
        self._departures.returned(batch, took_s=finished - batch.began, again=again)
        self._on_loop(self._settle, batch, outcome, again, finished)

    def _on_loop(self, callback: Callable[..., None], *args: object) -> None:
        try:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:  # the loop is closed: whoever waited is gone with it
            self._departures.forget()

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
            if item.ticket.trace is not None:
                item.ticket.trace.computed(
                    accepted=item.accepted,
                    began=batch.began,
                    samples=batch.samples,
                    laps=computed.laps,
                    laps_began=computed.laps_began,
                )
            if computed.failed[rows].any():
                self._fail(item.ticket, InternalFailure())
            else:
                maps = computed.attributions if item.explain else None
                item.ticket.fill(
                    item, computed.probabilities[rows], None if maps is None else maps[rows]
                )

    def _count(self, batch: Batch[Group], outcome: Computed | Exception, again: bool) -> None:
        self._metrics.queued(self._departures.waiting)
        if batch.released is not None:
            self._metrics.batch(batch.released, batch.samples)
            for item in batch.items:
                self._metrics.waited(batch.began - item.accepted)
        if again:
            self._metrics.batch_failed()
        elif isinstance(outcome, Computed):
            self._metrics.failed_rows(int(outcome.failed.sum()))
            if self._executed is not None:
                self._executed(batch, outcome)

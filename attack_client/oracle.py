"""The victim behind a query budget and a transfer set: what an attack asks."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attack_client.checked_numbers import whole_number
from attack_client.contract import BlackBox, ExplainedReply, Explaining, Reply
from attack_client.errors import BudgetExhausted, ProtocolError, TransferSetError
from attack_client.known_answers import KnownAnswers
from attack_client.query_allowance import Purse
from attack_client.transfer_set import TransferSet

__all__ = ["BudgetedOracle", "Tally", "Watch"]


@dataclass(frozen=True, slots=True)
class Tally:
    """How far a theft is, in samples.

    Attributes:
        budget: queries it may spend.
        had: answers at hand, from this run and earlier ones.
        replayed: answers taken from disk, which cost nothing now.
        copied: answers to images that were asked about at another position, which cost nothing.
        queries: answers paid for in this run.
        resent: samples sent again in this run, because an earlier attempt got no answer.
        repaired: bytes of a torn last record that were cut off when this run began.
        seconds: since the run began.
    """

    budget: int
    had: int = 0
    replayed: int = 0
    copied: int = 0
    queries: int = 0
    resent: int = 0
    repaired: int = 0
    seconds: float = 0.0

    @property
    def queries_per_second(self) -> float:
        """Answers paid for, per second of this run."""
        return self.queries / self.seconds if self.seconds > 0 else 0.0


Watch = Callable[[Tally], None]
"""Called after every request, in the event loop."""


class BudgetedOracle:
    """An ``Oracle`` that pays for no answer twice.

    Args:
        victim: asked for what is not on disk.
        transfer_set: open for writing; every answer is on disk before the attack sees it.
        budget: queries the attack may spend in all, earlier runs included.
        batch: images per request at most.
        concurrency: requests in flight at most.
        repeats: ask again for an image that has an answer at another position.
        purse: what the key may still ask; no more is sent.
        watch: told about every request.
    """

    def __init__(
        self,
        victim: BlackBox,
        transfer_set: TransferSet,
        *,
        budget: int,
        batch: int = 64,
        concurrency: int = 4,
        repeats: bool = False,
        purse: Purse | None = None,
        watch: Watch | None = None,
    ) -> None:
        for name, value in (("budget", budget), ("batch", batch), ("concurrency", concurrency)):
            whole_number(name, value, least=1)
        self._victim = victim
        self._transfer_set = transfer_set
        self._budget = budget
        self._batch = batch
        self._slots = asyncio.Semaphore(concurrency)
        self._watch = watch
        self._failure: Exception | None = None
        self._replayed = self._copied = self._queries = self._resent = 0
        self._cost = transfer_set.provenance.cost
        self._known = None if repeats else KnownAnswers(transfer_set)
        self._purse = purse or Purse()
        self._began = time.monotonic()

    @property
    def budget(self) -> int:
        """Queries the attack may spend in all."""
        return self._budget

    @property
    def tally(self) -> Tally:
        """How far the theft is."""
        return Tally(
            budget=self._budget,
            had=self._replayed + self._copied + self._queries,
            replayed=self._replayed,
            copied=self._copied,
            queries=self._queries,
            resent=self._resent,
            repaired=self._transfer_set.repaired,
            seconds=time.monotonic() - self._began,
        )

    async def ask(self, start: int, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities ``(n, K)`` of ``images``, recorded at positions ``start .. start + n``.

        After the first failure nothing more is sent; what is in flight then is still received
        and recorded, because it is paid for.

        Raises:
            BudgetExhausted: ``start + n`` is beyond the budget; nothing was sent.
            TransferSetError: other images are already recorded at these positions.
            VictimError: the victim gives no answer.
        """
        count = len(images)
        if start < 0 or start + count > self._budget:
            raise BudgetExhausted(
                f"positions {start} to {start + count - 1} were asked for; "
                f"the budget is {self._budget} queries"
            )
        gaps = self._transfer_set.missing(start, count)
        self._verify(start, images, gaps)
        self._replayed += count - sum(length for _, length in gaps)
        self._report()
        runs, copies = [*gaps], list[tuple[int, int]]()
        if self._known is not None:
            parts = [self._known.split(gap, _part(images, start, gap, n)) for gap, n in gaps]
            runs = [run for asked, _ in parts for run in asked]
            copies = [copy for _, known in parts for copy in known]
        requests = [
            self._request(first, _part(images, start, first, size))
            for run, n in runs
            for first, size in self._batches(run, n)
        ]
        for outcome in await asyncio.gather(*requests, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
        for position, first in copies:
            await self._copy(position, first, _part(images, start, position, 1))
        return self._transfer_set.answers(start, count)[1]

    def _batches(self, start: int, count: int) -> Iterator[tuple[int, int]]:
        """``(position, size)`` of the requests that ask about a run.

        What was in flight at a kill is asked for as it was, whatever ``batch`` and ``budget`` are
        now: under its own key it is not paid for again.
        """
        end = start + count
        while start < end:
            size = self._as_before(start, end)
            if not size:
                most = min(self._batch, end - start)
                steps = range(1, most)
                size = next((step for step in steps if self._as_before(start + step, end)), most)
            yield start, size
            start += size

    def _as_before(self, start: int, end: int) -> int:
        """Size of a request that was sent at ``start`` before and can be sent again; 0 if none."""
        most = min(self._batch, end - start)
        sizes = self._transfer_set.sent_earlier(start)
        return next((size for size in sizes if size <= most), 0)

    async def _copy(self, position: int, first: int, images: NDArray[np.uint8]) -> None:
        """Record the answer at ``first`` at ``position``, too: the image is the same."""
        if self._transfer_set.missing(first, 1):
            # Another task of the attack still waits for it.
            await self._request(position, images)
            return
        _, answers = self._transfer_set.answers(first, 1)
        maps = None
        if self._transfer_set.provenance.maps is not None:
            maps = self._transfer_set.maps(first, 1)
        self._transfer_set.note_copied(position, 1)
        await asyncio.to_thread(self._transfer_set.append, position, images, answers, maps)
        self._copied += 1
        self._report()

    async def _request(self, start: int, images: NDArray[np.uint8]) -> None:
        attempts = 0

        def sent() -> None:
            nonlocal attempts
            self._transfer_set.note_sent(start, len(images))
            self._resent += len(images) if attempts else 0
            attempts += 1

        def sending() -> None:
            if not attempts:
                self._stop_after_failure()  # it may have waited once more, for its turn
            sent()

        async with self._slots:
            try:
                self._stop_after_failure()
                again = len(images) in self._transfer_set.sent_earlier(start)
                async with self._purse.paying(len(images) * self._cost, again=again):
                    self._stop_after_failure()  # it may have waited
                    # The same images at the same position are the same request, before and after a
                    # kill; asking twice for one image at two positions is two.
                    key = uuid.uuid5(self._transfer_set.provenance.id, f"{start}+{len(images)}")
                    reply = await self._answer(images, str(key), sending)
                while attempts < reply.sends:
                    sent()
                maps = reply.attributions if isinstance(reply, ExplainedReply) else None
                await asyncio.to_thread(
                    self._transfer_set.append, start, images, reply.probabilities, maps
                )
            except Exception as error:
                self._failure = error
                raise
        self._queries += len(images)
        self._report()

    def _stop_after_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    async def _answer(
        self, images: NDArray[np.uint8], key: str, sending: Callable[[], None]
    ) -> Reply | ExplainedReply:
        if self._transfer_set.provenance.maps is None:
            return await self._victim.query(images, key=key, sending=sending)
        if not isinstance(self._victim, Explaining):
            raise ProtocolError(f"{self._victim!r} cannot be asked for attribution maps")
        return await self._victim.explain(images, key=key, sending=sending)

    def _verify(
        self, start: int, images: NDArray[np.uint8], gaps: tuple[tuple[int, int], ...]
    ) -> None:
        position = start
        for gap, length in (*gaps, (start + len(images), 0)):
            recorded, _ = self._transfer_set.answers(position, gap - position)
            if not np.array_equal(recorded, images[position - start : gap - start]):
                raise TransferSetError(
                    f"{self._transfer_set.path} holds answers to other images between positions "
                    f"{position} and {gap - 1}: it was made from another pool or seed, or by an "
                    "attack that trains a clone on another kind of machine"
                )
            position = gap + length

    def _report(self) -> None:
        if self._watch is not None:
            self._watch(self.tally)


def _part(images: NDArray[np.uint8], start: int, position: int, count: int) -> NDArray[np.uint8]:
    """Those of ``images``, whose first is at ``start``, from ``position`` on."""
    return images[position - start : position - start + count]

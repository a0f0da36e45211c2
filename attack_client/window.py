"""How many requests are in flight at once: as many as the victim bears, and the oldest first."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["Window"]


class Window:
    """Halves when a full victim refuses, and grows by one with every round of answers.

    A victim that is busy with one request of a caller may refuse the caller's others. If those
    simply came back later, the one that was served would have sent its successor first, again and
    again: some would starve beside their own siblings. So the window shrinks to what the victim
    takes, and a request that was refused goes before those that came after it. Source: additive
    increase, multiplicative decrease, as in TCP (RFC 5681).

    Until the first refusal there is no limit; who sends has one.
    """

    def __init__(self) -> None:
        self._size = math.inf
        self._cuts = 0
        self._flying = 0
        self._numbers = itertools.count()
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    @property
    def size(self) -> float:
        """Requests that may be in flight at once, rounded down; at least 1."""
        return self._size

    def place(self) -> int:
        """The next request's place in the order; it keeps it however often it is sent."""
        return next(self._numbers)

    @asynccontextmanager
    async def turn(self, place: int) -> AsyncIterator[int]:
        """Inside, the request at ``place`` may be in flight; waits until it may.

        Gives what ``refused`` is to be told.
        """
        mine = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (place, mine))
        self._admit()
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():
                self._leave()
            raise
        try:
            yield self._cuts
        finally:
            self._leave()

    def refused(self, cuts: int) -> None:
        """The victim was full; called inside the turn of the request that it refused.

        Requests that were in flight together and are refused together halve the window once.

        Args:
            cuts: what that turn gave.
        """
        if cuts == self._cuts:
            self._cuts += 1
            self._size = max(1.0, min(self._size, self._flying) / 2)

    def answered(self) -> None:
        """The victim answered."""
        self._size += 1.0 / self._size
        self._admit()

    def _leave(self) -> None:
        self._flying -= 1
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self._flying < math.floor(min(self._size, 2**31)):
            _, first = heapq.heappop(self._waiting)
            if not first.done():  # it may have been cancelled
                self._flying += 1
                first.set_result(None)

"""Threads that callers take turns at: whoever sends much waits for itself."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Hashable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

__all__ = ["Turns"]

T = TypeVar("T")


@dataclass(slots=True)
class _Turn:
    """What one caller has here.

    Attributes:
        free: as many as there are threads, less what it has begun.
        pieces: of its work, those that wait included.
    """

    free: asyncio.Semaphore
    pieces: int = 0


class Turns:
    """A bounded number of threads, of which each caller's work takes no more than there are.

    What one caller sends beyond that waits outside: others' work comes behind no more of it.
    Belongs to one event loop.

    Args:
        name: begins the names of the threads.
        threads: how many; default: one per core.
    """

    def __init__(self, name: str, threads: int | None = None) -> None:
        self._count = threads or os.cpu_count() or 1
        self._threads = ThreadPoolExecutor(self._count, thread_name_prefix=name)
        self._turns: dict[Hashable, _Turn] = {}
        self._begun: set[Future[Any]] = set()

    @property
    def busy(self) -> bool:
        """Whether a thread is at work, perhaps for somebody who has given up: nothing stops it."""
        return bool(self._begun)

    async def take(self, caller: Hashable, work: Callable[[], T]) -> T:
        """What ``work`` returns, or raises, in a thread.

        Cancelling the awaiting task withdraws what has not begun, and lets go of it.
        """
        # The queue of the threads keeps what was withdrawn until one of them comes to it; what is
        # in it may be as large as a body, which nobody counts any more.
        held = [work]
        del work
        turn = self._turns.setdefault(caller, _Turn(asyncio.Semaphore(self._count)))
        turn.pieces += 1
        try:
            async with turn.free:
                begun = self._threads.submit(partial(_do, held))
                self._begun.add(begun)
                begun.add_done_callback(self._begun.discard)
                return await asyncio.wrap_future(begun)
        finally:
            held.clear()
            turn.pieces -= 1
            if not turn.pieces:
                del self._turns[caller]


def _do(held: list[Callable[[], T]]) -> T:
    try:
        work = held.pop()
    except IndexError:  # withdrawn in the moment in which it would have begun
        raise CancelledError from None
    return work()

"""What still has to be told to a store: in order, in batches, until it has been heard."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from server.callers.metrics import CallerMetrics
from server.errors import StoreAway

__all__ = ["Arrears"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

EVERY_S = 0.05
"""How often they are told; everything that came meanwhile goes together."""

BATCH = 200
"""How many are told at once."""

MOST = 100_000
"""How many are remembered through an outage. What comes beyond that stays charged."""

LAST_S = 2.0
"""How long a stopping server goes on trying."""


class Arrears(Generic[T]):
    """A queue that nobody waits for, emptied by a task of its own.

    Args:
        tell: tells some of them, and returns those that have to be told again; may be asked to
            tell the same again if it fails.
        metrics: told how many there are.
    """

    def __init__(
        self, tell: Callable[[Sequence[T]], Awaitable[Sequence[T]]], metrics: CallerMetrics
    ) -> None:
        self._tell = tell
        self._metrics = metrics
        self._waiting: deque[tuple[float, T]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._more = asyncio.Event()

    def add(self, item: T) -> None:
        """Have ``item`` told, after everything that was added before."""
        if len(self._waiting) >= MOST:
            logger.error("callers: a charge is never settled: %d others wait", MOST)
            self._metrics.lost()
            return
        self._waiting.append((time.monotonic(), item))
        self._counted()
        self._more.set()

    def start(self) -> None:
        """Begin to tell."""
        self._task = asyncio.create_task(self._go_on())

    async def close(self) -> None:
        """Tell what there is, if somebody listens within ``LAST_S``."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=LAST_S)
        until = asyncio.get_running_loop().time() + LAST_S
        while self._waiting and asyncio.get_running_loop().time() < until:
            if not await self._some():
                await asyncio.sleep(EVERY_S)
        if self._waiting:
            logger.error("callers: %d charges end here without being settled", len(self._waiting))
            self._metrics.lost(len(self._waiting))

    async def _go_on(self) -> None:
        while True:
            await self._more.wait()
            await asyncio.sleep(EVERY_S)
            try:
                while self._waiting and await self._some():
                    pass
            except Exception:
                # Nobody waits for this task: it must not end before the process does.
                logger.exception("callers: charges could not be settled; they are tried again")
            if not self._waiting:
                self._more.clear()

    async def _some(self) -> bool:
        batch = [self._waiting[index] for index in range(min(BATCH, len(self._waiting)))]
        try:
            again = await self._tell([item for _, item in batch])
        except StoreAway:  # counted and logged where it happened
            return False
        for _ in batch:
            self._waiting.popleft()
        self._waiting.extendleft(
            (since, item) for since, item in reversed(batch) if any(item is one for one in again)
        )
        self._counted()
        return not again

    def _counted(self) -> None:
        oldest = self._waiting[0][0] if self._waiting else None
        self._metrics.unsettled(len(self._waiting), oldest)

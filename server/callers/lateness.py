"""How late the event loop runs while somebody waits: an answer may have come, and nobody looked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Lateness"]


class Lateness:
    """Adds up how late a timer fires that is due again and again, while anybody watches.

    Belongs to one event loop.

    Args:
        every_s: how often it is due; a loop that comes round sooner than that is not late.
    """

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._watching = 0
        self._late_s = 0.0
        # Not the loop's clock, which may stand still for as long as the loop is busy.
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @contextmanager
    def watch(self) -> Iterator[Callable[[], float]]:
        """Watch while the block runs; tells how many seconds the loop has been late since then."""
        if not self._watching:
            self._wind()
        self._watching += 1
        # What the timer is overdue by already is the others' to know.
        before = self._late_s + self._overdue_s()
        try:
            yield lambda: self._late_s + self._overdue_s() - before
        finally:
            self._watching -= 1
            if not self._watching and self._timer is not None:
                self._timer.cancel()

    def _wind(self) -> None:
        self._due = time.monotonic() + self._every_s
        self._timer = asyncio.get_running_loop().call_later(self._every_s, self._tick)

    def _tick(self) -> None:
        self._late_s += self._overdue_s()
        self._wind()

    def _overdue_s(self) -> float:
        return max(0.0, time.monotonic() - self._due)

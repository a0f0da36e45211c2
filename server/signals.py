"""What signals ask of a running server: to stop, to stop at once, to read everything again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Iterator

from server.errors import ConfigurationError, ServiceError
from server.hot_reload import HotReload

__all__ = ["Signals", "reloading"]

logger = logging.getLogger(__name__)


class Signals:
    """SIGTERM and SIGINT as events: the first, and every further one; and SIGHUP as another."""

    def __init__(self) -> None:
        self.hangup = asyncio.Event()
        self.first = asyncio.Event()
        self.second = asyncio.Event()

    @contextlib.contextmanager
    def handled(self) -> Iterator[None]:
        """Take the signals until the block ends."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._arrived)
        loop.add_signal_handler(signal.SIGHUP, self.hangup.set)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
            loop.remove_signal_handler(signal.SIGHUP)
            # What is owed has still to be told to the store.
            signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def _arrived(self) -> None:
        (self.second if self.first.is_set() else self.first).set()


@contextlib.asynccontextmanager
async def reloading(reloads: HotReload, wanted: asyncio.Event) -> AsyncIterator[None]:
    """Reload whenever that is ``wanted``; what comes during a reload is one more reload."""

    async def watch() -> None:
        while True:
            await wanted.wait()
            wanted.clear()
            try:
                await reloads.reload()
            except (ConfigurationError, ServiceError):
                logger.error("what was served before is served on")  # the reason is logged there
            except Exception:
                logger.exception("the reload failed; what was served before is served on")

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.wait([watching])
        reloads.close()

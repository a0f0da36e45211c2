"""The one thread in which an engine computes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["Worker", "WorkerError"]

T = TypeVar("T")


class WorkerError(Exception):
    """What was called raised; ``__cause__`` holds it."""


def _guarded(function: Callable[..., T], *args: object) -> T:
    # A defense may be a third party's. SystemExit would stop the event loop that awaits it, and
    # StopIteration cannot be put into a future at all: its caller would wait for ever.
    try:
        return function(*args)
    except BaseException as error:
        raise WorkerError(f"{type(error).__name__}: {error}") from error


class Worker:
    """Calls one function at a time, in order, off the event loop."""

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    def call(self, function: Callable[..., T], *args: object) -> asyncio.Future[T]:
        """Begin ``function(*args)`` as soon as the thread is free, before this returns if it is.

        The future fails with ``WorkerError`` whatever the function raises.
        """
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._executor, _guarded, function, *args)

    def close(self, *, wait: bool) -> None:
        """Take no more calls; optionally wait for the one being computed."""
        self._executor.shutdown(wait=wait, cancel_futures=True)

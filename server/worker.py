"""The one thread in which an engine computes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from server.batches import Batches, Computed, Group
from server.errors import WorkerError

__all__ = ["Worker"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

RETRY_S = 0.1
"""Pause after an error that is nobody's query, so that a lasting one does not fill the log."""


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

    def compute(
        self,
        batches: Batches[Group],
        compute: Callable[[Group, Sequence[NDArray[np.uint8]], NDArray[np.bool_]], Computed],
    ) -> None:
        """Take ``batches`` and ``compute`` them, one after another, until there is none.

        ``compute`` is given the group, the images in parts, and which of them ask for a map.

        The thread asks for the next batch itself: an event loop that is busy with a thousand
        other requests would let it stand still.
        """
        self._executor.submit(self._next, batches, compute)

    def _next(self, batches: Batches[Any], compute: Callable[..., Computed]) -> None:
        try:
            batch = batches.take()
            if batch is None:
                return
            outcome: Computed | Exception
            try:
                outcome = _guarded(compute, batch.group, batch.parts, batch.explain)
            except WorkerError as error:
                outcome = error
            batches.done(batch, outcome)
        except Exception:
            logger.exception("the engine's thread met an error of its own")
            time.sleep(RETRY_S)
        # By way of the executor, and not in a loop, so that a call gets its turn between batches.
        try:
            self._executor.submit(self._next, batches, compute)
        except RuntimeError:
            logger.info("the engine's thread ends")

    def close(self, *, wait: bool) -> None:
        """Take no more calls; optionally wait for the one being computed."""
        self._executor.shutdown(wait=wait, cancel_futures=True)

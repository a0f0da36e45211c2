"""Work for a thread that may hang, on a disk for instance, with a bound on what waits for it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future

__all__ = ["Backlog"]

Job = tuple[Callable[[], object], int, Future[None]]


class Backlog:
    """Does one thing after the other in a thread of its own, which does not keep the process.

    Args:
        name: of the thread.
        most: pieces of work that wait or are being done; one is always taken where none is.
        most_bytes: what all of them may hold.
    """

    def __init__(self, name: str, *, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._waiting = 0
        self._bytes = 0
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def put(self, work: Callable[[], object], size: int = 0) -> Future[None] | None:
        """Have ``work`` done.

        Args:
            work: to be called once.
            size: bytes that it holds.

        Returns:
            Done when it was; None if it will not be, for too much waits.
        """
        with self._lock:
            full = self._waiting >= self._most or self._bytes + size > self._most_bytes
            if self._waiting and full:
                return None
            self._waiting += 1
            self._bytes += size
        done: Future[None] = Future()
        self._jobs.put((work, size, done))
        return done

    def close(self, timeout_s: float) -> int:
        """Have no more done than what waits, and that only for so long.

        Returns:
            Pieces of work that were not done.
        """
        self._jobs.put(None)
        self._thread.join(timeout_s)
        with self._lock:
            return self._waiting

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            work, size, done = job
            # Whoever asked may have stopped waiting, which makes no difference to the work.
            awaited = done.set_running_or_notify_cancel()
            failure: BaseException | None = None
            try:
                work()
            except BaseException as error:
                failure = error
            # What the work holds is not kept until the next comes.
            del job, work
            with self._lock:
                self._waiting -= 1
                self._bytes -= size
            if awaited and failure is None:
                done.set_result(None)
            elif awaited:
                done.set_exception(failure)

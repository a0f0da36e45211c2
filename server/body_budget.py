"""How many bytes of request bodies the process holds at once, over all requests."""

from __future__ import annotations

import threading

from server.errors import QueueFull

__all__ = ["BodyBudget", "BodyLease"]


class BodyBudget:
    """Bytes that all requests together may hold between arrival and decoding.

    Args:
        limit: in bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        # Bodies grow on the event loop, and on the threads that decompress them.
        self._lock = threading.Lock()

    @property
    def held(self) -> int:
        """Bytes held now."""
        return self._held

    def lease(self) -> BodyLease:
        """Begin one request, which holds nothing yet."""
        return BodyLease(self)

    def take(self, size: int) -> None:
        """Hold ``size`` more bytes, or that many fewer.

        Raises:
            QueueFull: there would be more than the limit.
        """
        with self._lock:
            if size > 0 and self._held + size > self._limit:
                raise QueueFull(
                    f"the server holds {self._limit} bytes of requests already, try again later "
                    f"(limits.max_buffered_bytes)",
                    retry_after=1.0,
                )
            self._held += size


class BodyLease:
    """What one request holds of the budget; leaving the context gives all of it back."""

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self._size = 0
        self._lock = threading.Lock()
        self._over = False

    def __enter__(self) -> BodyLease:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()

    def hold(self, size: int) -> None:
        """Hold ``size`` bytes more.

        Raises:
            QueueFull: the budget has not that many left.
        """
        with self._lock:
            # A thread may come here after its request was given up.
            if not self._over:
                self._budget.take(size)
                self._size += size

    def release(self) -> None:
        """Give everything back; nothing is held through this lease any more."""
        with self._lock:
            self._over = True
            self._budget.take(-self._size)
            self._size = 0

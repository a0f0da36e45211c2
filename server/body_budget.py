"""How many bytes of request bodies the process holds at once, over all requests."""

from __future__ import annotations

import threading
from collections import Counter

from server.errors import QueueFull

__all__ = ["BodyBudget", "BodyLease"]


class BodyBudget:
    """Bytes that all requests together may hold between arrival and decoding.

    Args:
        limit: in bytes.
        caller_limit: of the requests of one known caller among them; None: all of it.
    """

    def __init__(self, limit: int, caller_limit: int | None = None) -> None:
        self._limit = limit
        self._caller_limit = limit if caller_limit is None else caller_limit
        self._held = 0
        self._by_caller: Counter[str] = Counter()
        # Bodies grow on the event loop, and on the threads that decompress them.
        self._lock = threading.Lock()

    @property
    def held(self) -> int:
        """Bytes held now."""
        return self._held

    def lease(self, caller: str | None = None) -> BodyLease:
        """Begin one request, which holds nothing yet.

        Args:
            caller: who sends it; None: callers are not told apart.
        """
        return BodyLease(self, caller)

    def take(self, size: int, caller: str | None = None) -> None:
        """Hold ``size`` more bytes of ``caller``, or that many fewer.

        Raises:
            QueueFull: there would be more than the limit, or than the caller's.
        """
        with self._lock:
            whose = 0 if caller is None else self._by_caller[caller]
            if caller is not None and size > 0 and whose + size > self._caller_limit:
                raise QueueFull(
                    f"the server holds {whose} bytes of requests of this API key already, try "
                    "again later (limits.max_caller_buffered_bytes)",
                    retry_after=1.0,
                )
            if size > 0 and self._held + size > self._limit:
                raise QueueFull(
                    f"the server holds {self._limit} bytes of requests already, try again later "
                    f"(limits.max_buffered_bytes)",
                    retry_after=1.0,
                )
            self._held += size
            if caller is not None:
                self._by_caller[caller] += size
                if not self._by_caller[caller]:
                    del self._by_caller[caller]


class BodyLease:
    """What one request holds of the budget; leaving the context gives all of it back."""

    def __init__(self, budget: BodyBudget, caller: str | None) -> None:
        self._budget = budget
        self._caller = caller
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
            QueueFull: the budget, or the caller's share, has not that many left.
        """
        with self._lock:
            # A thread may come here after its request was given up.
            if not self._over:
                self._budget.take(size, self._caller)
                self._size += size

    def release(self) -> None:
        """Give everything back; nothing is held through this lease any more."""
        with self._lock:
            self._over = True
            self._budget.take(-self._size, self._caller)
            self._size = 0

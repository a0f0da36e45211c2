"""How much of the queue each model takes, so that one in demand leaves room for the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from server.errors import QueueFull

__all__ = ["Shares"]


class Shares:
    """Counts the samples of each model that wait or are computed; belongs to the event loop.

    Args:
        retry_after: in how many seconds whoever is refused may try again.
    """

    def __init__(self, retry_after: Callable[[], float]) -> None:
        self._retry_after = retry_after
        self._held: Counter[str] = Counter()

    @contextmanager
    def hold(self, name: str, samples: int, *, at_most: int) -> Iterator[None]:
        """Count ``samples`` of the model ``name`` until the block ends.

        Raises:
            QueueFull: with them it would have more than ``at_most``.
        """
        if self._held[name] + samples > at_most:
            raise QueueFull(retry_after=self._retry_after())
        self._held[name] += samples
        try:
            yield
        finally:
            self._held[name] -= samples
            if not self._held[name]:
                # Names come and go with reloads.
                del self._held[name]

"""What a request may expect of the queue: an answer in time, or else when to try again."""

from __future__ import annotations

import math
from typing import Generic

from server.batches import Group
from server.departures import Departures
from server.errors import QueueFull
from server.pace import Pace
from server.settings import BatchingSettings

__all__ = ["IN_TIME", "Forecast"]

IN_TIME = 0.5
"""Share of its deadline that a request may be expected to take; the rest is for being wrong."""


class Forecast(Generic[Group]):
    """Tells from what waits, and from the pace of late, whom it is better to refuse.

    Args:
        settings: sizes and times.
        departures: what waits and what is computed.
        pace: how fast answers come.
    """

    def __init__(
        self, settings: BatchingSettings, departures: Departures[Group], pace: Pace
    ) -> None:
        self._settings = settings
        self._departures = departures
        self._pace = pace

    def refusal(self, samples: int, timeout_s: float) -> QueueFull | None:
        """Why a request of ``samples`` with that deadline would be refused now, if it would."""
        full = self._departures.waiting + samples > self._settings.queue_samples
        # Accepted, a late one would wait out its deadline, and push others past theirs.
        if full or self._seconds_until_answered(samples) > IN_TIME * timeout_s:
            return QueueFull(retry_after=self.seconds_until_room())
        return None

    def seconds_until_room(self) -> float:
        """When a caller that is refused now may try again, at the pace of late."""
        waiting = self._pace.forecast(self._batches(self._departures.waiting))
        return min(max(waiting, 0.1), self._settings.deadline_s)

    def _seconds_until_answered(self, samples: int) -> float:
        """What is ahead of ``samples`` more, and they themselves, at the pace of late."""
        waiting, computing = self._departures.waiting, self._departures.computing
        if waiting + computing == 0:
            return 0.0
        computing_batches = 1 if computing else 0
        return self._pace.forecast(computing_batches + self._batches(waiting + samples))

    def _batches(self, samples: int) -> int:
        return math.ceil(samples / self._settings.max_batch_size)

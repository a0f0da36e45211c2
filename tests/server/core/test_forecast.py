"""Whom the queue refuses: told from what waits and from the pace, without an event loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, cast

import numpy as np
import pytest

from server.departures import Departures, Due, Later
from server.errors import QueueFull
from server.forecast import IN_TIME, Forecast
from server.pace import Pace
from server.settings import BatchingSettings
from server.waiting import Item, Ticket

BATCH_S = 0.25


class Queue:
    """What a forecast looks at: batches of four, sixteen samples may wait, a batch takes 0.25 s."""

    def __init__(self, settings: BatchingSettings) -> None:
        self.pace = Pace()
        self.departures: Departures[str] = Departures(settings, self.pace)
        self.forecast = Forecast(settings, self.departures, self.pace)

    def add(self, samples: int) -> None:
        """Have so many samples wait, each a request of its own."""
        for _ in range(samples):
            # Only whether it is over is looked at here, and no loop is needed to tell.
            ticket = Ticket(cast("Any", Future()), 1, time.perf_counter() + 60)
            image = np.zeros((1, 1, 1, 1), dtype=np.uint8)
            self.departures.add("a", [Item(ticket, image, 0, time.perf_counter())])


@pytest.fixture
def queue(batching: Callable[..., BatchingSettings]) -> Queue:
    return Queue(batching(deadline_s=3.0))


def test_an_idle_engine_refuses_nobody_however_slow_it_is(queue: Queue) -> None:
    queue.pace.computed(100.0)
    assert queue.forecast.refusal(16, timeout_s=0.01) is None


def test_a_full_queue_refuses_whatever_the_pace(queue: Queue) -> None:
    queue.add(10)
    assert queue.forecast.refusal(6, timeout_s=10.0) is None
    assert isinstance(queue.forecast.refusal(7, timeout_s=10.0), QueueFull)


@pytest.mark.parametrize("computing", [False, True])
def test_whoever_would_be_late_is_refused(queue: Queue, computing: bool) -> None:
    queue.pace.computed(BATCH_S)
    queue.add(8 if computing else 4)
    if computing:
        assert queue.departures.depart() == Due("a", "full")
        batch, _ = queue.departures.take()
        assert batch is not None
        assert (queue.departures.waiting, queue.departures.computing) == (4, 4)
    # Four wait, so that five more are three batches; the one that is computed comes before them.
    expected_s = (4 if computing else 3) * BATCH_S
    assert queue.forecast.refusal(5, timeout_s=expected_s / IN_TIME) is None
    refusal = queue.forecast.refusal(5, timeout_s=0.99 * expected_s / IN_TIME)
    assert isinstance(refusal, QueueFull)
    assert refusal.retry_after == BATCH_S


def test_who_is_refused_is_told_when_what_waits_is_answered(queue: Queue) -> None:
    assert queue.forecast.seconds_until_room() == 0.1
    queue.add(5)
    assert queue.forecast.seconds_until_room() == 0.1
    queue.pace.computed(BATCH_S)
    assert queue.forecast.seconds_until_room() == 2 * BATCH_S
    queue.pace.noticed(100.0)
    assert queue.forecast.seconds_until_room() == 3.0


def test_departures_say_what_is_due_or_when_to_ask_again(
    batching: Callable[..., BatchingSettings],
) -> None:
    queue = Queue(batching(max_wait_ms=1000.0))
    assert queue.departures.depart() is None
    queue.add(1)
    later = queue.departures.depart()
    assert isinstance(later, Later)
    assert 0.0 < later.seconds <= 1.0
    queue.add(3)
    assert queue.departures.depart() == Due("a", "full")
    assert queue.departures.depart() is None, "somebody takes already"

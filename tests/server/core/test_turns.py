"""Threads that callers take turns at: what is withdrawn before it begins."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError

import pytest

from server.turns import Turns

pytestmark = pytest.mark.anyio


class Body:
    """What a caller sent, which can be watched."""

    def size(self) -> int:
        return 7


@pytest.fixture
def goes_on() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def held(turns: Turns, goes_on: threading.Event) -> asyncio.Task[bool]:
    """Somebody has the one thread, until it goes on."""
    return asyncio.create_task(turns.take("slow", lambda: goes_on.wait(30)))


async def test_what_is_withdrawn_is_not_kept_until_a_thread_is_free(
    goes_on: threading.Event,
) -> None:
    turns = Turns("test-turns", 1)
    slow = held(turns, goes_on)
    body = Body()
    seen = weakref.ref(body)
    asked = asyncio.create_task(turns.take("quick", body.size))
    del body
    await asyncio.sleep(0)
    assert turns._threads._work_queue.qsize(), "it waits among the others"
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    del asked
    gc.collect()
    assert seen() is None
    assert turns._threads._work_queue.qsize()
    goes_on.set()
    assert await slow
    # The thread is well.
    assert await turns.take("quick", Body().size) == 7


async def test_what_is_withdrawn_while_a_thread_takes_it_up_does_nothing(
    goes_on: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = Turns("test-turns", 1)
    begun: list[Callable[[], object]] = []
    submit = turns._threads.submit

    def noted(work: Callable[[], object]) -> object:
        begun.append(work)
        return submit(work)

    monkeypatch.setattr(turns._threads, "submit", noted)
    slow = held(turns, goes_on)
    done: list[int] = []
    asked = asyncio.create_task(turns.take("quick", lambda: done.append(1)))
    await asyncio.sleep(0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    # As the thread would, had it taken this up a moment before.
    with pytest.raises(CancelledError):
        begun[1]()
    assert not done
    goes_on.set()
    assert await slow

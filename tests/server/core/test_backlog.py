"""Work for a thread that may hang: in order, bounded, and never what keeps a process."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from server.backlog import Backlog


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What a hanging piece of work waits for."""
    opened = threading.Event()
    yield opened
    opened.set()


def test_work_is_done_in_order_and_its_failures_belong_to_who_asked() -> None:
    done: list[int] = []
    backlog = Backlog("test", most=100, most_bytes=0)

    def fail() -> None:
        raise OSError("a disk")

    asked = [backlog.put(lambda number=number: done.append(number)) for number in range(20)]  # type: ignore[misc]
    failed = backlog.put(fail)
    last = backlog.put(lambda: done.append(20))
    assert failed is not None
    assert isinstance(failed.exception(10), OSError)
    assert last is not None
    last.result(10)
    assert all(future is not None and future.done() for future in asked)
    assert done == list(range(21))
    assert backlog.close(10) == 0


def test_what_nobody_waits_for_any_more_is_done_all_the_same(gate: threading.Event) -> None:
    done: list[str] = []
    backlog = Backlog("test", most=10, most_bytes=0)
    backlog.put(lambda: gate.wait(30))
    left = backlog.put(lambda: done.append("left"))
    assert left is not None
    assert left.cancel()
    after = backlog.put(lambda: done.append("after"))
    gate.set()
    assert after is not None
    after.result(10)
    assert done == ["left", "after"]
    assert backlog.close(10) == 0


def test_pieces_and_bytes_that_wait_are_bounded(gate: threading.Event) -> None:
    backlog = Backlog("test", most=3, most_bytes=100)
    # Larger than all that may wait: where nothing does, it is taken.
    large = backlog.put(lambda: gate.wait(30), 500)
    assert large is not None
    assert backlog.put(lambda: None, 1) is None
    assert backlog.put(lambda: None) is None
    gate.set()
    large.result(10)
    gate.clear()
    assert backlog.put(lambda: gate.wait(30), 40) is not None
    assert backlog.put(lambda: None, 61) is None
    assert backlog.put(lambda: None, 60) is not None
    last = backlog.put(lambda: None)
    assert last is not None
    assert backlog.put(lambda: None) is None
    gate.set()
    last.result(10)
    assert backlog.close(10) == 0


def test_a_thread_that_hangs_is_not_waited_for(gate: threading.Event) -> None:
    backlog = Backlog("test-hangs", most=10, most_bytes=0)
    backlog.put(lambda: gate.wait(30))
    backlog.put(lambda: None)
    assert backlog.close(0.05) == 2
    (thread,) = (found for found in threading.enumerate() if found.name == "test-hangs")
    assert thread.daemon

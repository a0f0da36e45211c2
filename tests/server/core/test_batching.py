"""How queries become batches, and batches answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from server.batches import Batches, Computed
from server.batching import Batcher
from server.errors import DeadlinePassed, Draining, QueueFull
from server.metrics import Metrics
from server.settings import BatchingSettings
from tests.server.core.gate import Gate, expected, images, take_all, turns

pytestmark = pytest.mark.anyio

Build = Callable[..., BatchingSettings]


@pytest.fixture
def gate() -> Gate:
    return Gate()


def batcher(gate: Gate, settings: BatchingSettings, metrics: Metrics | None = None) -> Batcher[str]:
    return Batcher(gate.begin, settings=settings, metrics=metrics or Metrics())


def ask(
    to: Batcher[str], *values: int, group: str = "a", timeout_s: float = 5.0
) -> asyncio.Task[NDArray[np.float32]]:
    return asyncio.ensure_future(to.submit(group, images(*values), timeout_s=timeout_s))


async def test_an_idle_engine_takes_a_query_at_once(gate: Gate, batching: Build) -> None:
    asked = ask(batcher(gate, batching()), 7)
    await turns()
    assert gate.batches == [("a", (7,))]
    gate.open()
    np.testing.assert_array_equal(await asked, expected(7))


async def test_what_arrives_together_leaves_together(gate: Gate, batching: Build) -> None:
    to = batcher(gate, batching())
    asked = [ask(to, value) for value in (1, 2, 3)]
    await turns()
    assert gate.batches == [("a", (1, 2, 3))]
    gate.open()
    await asyncio.gather(*asked)


async def test_queries_gather_while_the_engine_is_busy_up_to_max_batch_size(
    gate: Gate, batching: Build
) -> None:
    to = batcher(gate, batching(max_batch_size=4))
    first = ask(to, 0)
    await turns()
    others = [ask(to, value) for value in (1, 2, 3, 4, 5, 6)]
    await turns()
    gate.open()
    answers = await asyncio.gather(first, *others)
    assert gate.batches == [("a", (0,)), ("a", (1, 2, 3, 4)), ("a", (5, 6))]
    for value, answer in enumerate(answers):
        np.testing.assert_array_equal(answer, expected(value))


async def test_a_batch_is_of_one_group_and_the_longest_waiting_goes_first(
    gate: Gate, batching: Build
) -> None:
    to = batcher(gate, batching())
    asked = [ask(to, 0)]
    await turns()
    asked += [ask(to, 1, group="b"), ask(to, 2), ask(to, 3, group="b"), ask(to, 4)]
    await turns()
    gate.open()
    await asyncio.gather(*asked)
    assert gate.batches == [("a", (0,)), ("b", (1, 3)), ("a", (2, 4))]


async def test_a_request_above_max_batch_size_is_split_and_answered_as_a_whole(
    gate: Gate, batching: Build
) -> None:
    to = batcher(gate, batching(max_batch_size=4))
    asked = ask(to, *range(10))
    await turns()
    gate.let_through(2)
    await turns(20)
    assert not asked.done()
    gate.open()
    np.testing.assert_array_equal(await asked, expected(*range(10)))
    assert [values for _, values in gate.batches] == [(0, 1, 2, 3), (4, 5, 6, 7), (8, 9)]


async def test_a_part_that_does_not_fit_waits_for_the_next_batch(
    gate: Gate, batching: Build
) -> None:
    to = batcher(gate, batching(max_batch_size=4))
    asked = [ask(to, 0)]
    await turns()
    asked += [ask(to, 1, 2), ask(to, 3, 4, 5), ask(to, 6)]
    await turns()
    gate.open()
    await asyncio.gather(*asked)
    assert [values for _, values in gate.batches] == [(0,), (1, 2), (3, 4, 5, 6)]


async def test_the_queue_is_bounded_in_samples_and_all_or_nothing(
    gate: Gate, batching: Build
) -> None:
    to = batcher(gate, batching(queue_samples=6))
    asked = [ask(to, 0)]
    await turns()
    asked += [ask(to, 1, 2, 3, 4)]
    await turns()
    with pytest.raises(QueueFull) as refused:
        await to.submit("a", images(5, 6, 7), timeout_s=1)
    assert refused.value.retry_after is not None
    assert refused.value.retry_after > 0
    asked += [ask(to, 8, 9)]
    gate.open()
    await asyncio.gather(*asked)
    assert [values for _, values in gate.batches] == [(0,), (1, 2, 3, 4), (8, 9)]


async def test_retry_after_grows_with_what_waits(gate: Gate, batching: Build) -> None:
    async def slow(group: str, parts: Sequence[NDArray[np.uint8]]) -> Computed:
        await asyncio.sleep(0.1)
        return await gate(group, parts)

    def begin(batches: Batches[str]) -> None:
        takers.append(asyncio.ensure_future(take_all(batches, slow)))

    takers: list[asyncio.Task[None]] = []
    gate.open()
    to: Batcher[str] = Batcher(begin, settings=batching(max_batch_size=1), metrics=Metrics())
    await to.submit("a", images(1), timeout_s=1)
    waiting = [ask(to, 0)]
    await turns()
    waiting += [ask(to, value) for value in range(16)]
    await turns()
    with pytest.raises(QueueFull) as refused:
        await to.submit("a", images(1), timeout_s=1)
    assert refused.value.retry_after == pytest.approx(1.6, rel=0.5)
    for each in waiting:
        each.cancel()


async def test_a_waiting_caller_is_answered_at_its_deadline(gate: Gate, batching: Build) -> None:
    to = batcher(gate, batching())
    loop = asyncio.get_running_loop()
    began = loop.time()
    computing, waiting = ask(to, 1, timeout_s=0.05), ask(to, 2, group="b", timeout_s=0.05)
    answers = await asyncio.gather(computing, waiting, return_exceptions=True)
    assert [type(answer) for answer in answers] == [DeadlinePassed, DeadlinePassed]
    assert "0.05 s" in str(answers[0])
    assert loop.time() - began < 1.0
    gate.open()
    np.testing.assert_array_equal(await ask(to, 3), expected(3))
    # What expired while it waited never reached the engine.
    assert [values for _, values in gate.batches] == [(1,), (3,)]


async def test_expired_samples_no_longer_fill_the_queue(gate: Gate, batching: Build) -> None:
    to = batcher(gate, batching(queue_samples=4))
    first = ask(to, 0)
    await turns()
    with pytest.raises(DeadlinePassed):
        await to.submit("a", images(1, 2, 3, 4), timeout_s=0.02)
    others = ask(to, 5, 6, 7, 8)
    await turns()
    gate.open()
    await asyncio.gather(first, others)
    assert [values for _, values in gate.batches] == [(0,), (5, 6, 7, 8)]


async def test_an_item_that_expired_unnoticed_is_dropped_before_it_is_computed(
    gate: Gate, batching: Build
) -> None:
    to = batcher(gate, batching())
    late, punctual = ask(to, 1, timeout_s=1e-9), ask(to, 2)
    gate.open()
    with pytest.raises(DeadlinePassed):
        await late
    await punctual
    assert gate.batches == [("a", (2,))]


async def test_max_wait_lets_a_batch_fill(gate: Gate, batching: Build) -> None:
    gate.open()
    to = batcher(gate, batching(max_wait_ms=10_000, max_batch_size=3))
    asked = [ask(to, 1)]
    await turns()
    asked += [ask(to, 2)]
    await turns()
    assert gate.batches == []
    asked += [ask(to, 3)]
    await asyncio.gather(*asked)
    assert gate.batches == [("a", (1, 2, 3))]


async def test_max_wait_counts_from_the_first_query(gate: Gate, batching: Build) -> None:
    gate.open()
    to = batcher(gate, batching(max_wait_ms=150, max_batch_size=100, queue_samples=100))
    began = asyncio.get_running_loop().time()
    first = ask(to, 0)
    others = []
    while not first.done():  # a steady trickle must not put the batch off
        await asyncio.sleep(0.02)
        others.append(ask(to, 1))
    assert 0.1 < asyncio.get_running_loop().time() - began < 1.0
    await asyncio.gather(*others)
    assert len(gate.batches[0][1]) > 1


async def test_a_full_group_does_not_wait_for_another_groups_wait(
    gate: Gate, batching: Build
) -> None:
    gate.open()
    to = batcher(gate, batching(max_wait_ms=10_000, max_batch_size=2))
    alone = ask(to, 1, group="b")
    await turns()
    await asyncio.gather(ask(to, 2), ask(to, 3))
    assert gate.batches == [("a", (2, 3))]
    alone.cancel()


async def test_drain_finishes_what_was_accepted_and_refuses_the_rest(
    gate: Gate, batching: Build
) -> None:
    to = batcher(gate, batching())
    accepted = [ask(to, 1), ask(to, 2, group="b")]
    await turns()
    draining = asyncio.ensure_future(to.drain(5.0))
    await turns()
    with pytest.raises(Draining) as refused:
        await to.submit("a", images(3), timeout_s=1)
    assert refused.value.retry_after is not None
    assert not draining.done()
    gate.open()
    assert await draining
    assert [len(await answer) for answer in accepted] == [1, 1]


async def test_drain_does_not_wait_for_batches_to_fill(gate: Gate, batching: Build) -> None:
    gate.open()
    to = batcher(gate, batching(max_wait_ms=10_000))
    accepted = ask(to, 1)
    await turns()
    async with asyncio.timeout(1):
        assert await to.drain(5.0)
    np.testing.assert_array_equal(await accepted, expected(1))


async def test_drain_gives_up_in_time_and_leaves_nobody_waiting(
    gate: Gate, batching: Build
) -> None:
    to = batcher(gate, batching())
    accepted = [ask(to, 1), ask(to, 2, group="b")]
    await turns()
    async with asyncio.timeout(1):
        assert not await to.drain(0.05)
    answers = await asyncio.gather(*accepted, return_exceptions=True)
    assert [type(answer) for answer in answers] == [Draining, Draining]
    gate.open()
    await turns(20)


async def test_draining_an_idle_batcher_returns_at_once(gate: Gate, batching: Build) -> None:
    assert await batcher(gate, batching()).drain(0.01)


async def test_metrics_tell_why_and_how_large(
    gate: Gate, batching: Build, metrics: Metrics
) -> None:
    to = batcher(gate, batching(max_batch_size=2), metrics)
    asked = [ask(to, 0)]
    await turns()
    asked += [ask(to, value) for value in (1, 2, 3)]
    await turns()

    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(name, labels)

    assert value("intaglio_in_flight_samples") == 4
    assert value("intaglio_queued_samples") == 3
    gate.open()
    await asyncio.gather(*asked)
    await ask(to, 4)
    assert value("intaglio_in_flight_samples") == 0
    assert value("intaglio_queued_samples") == 0
    assert value("intaglio_batches_total", released="idle") == 2
    assert value("intaglio_batches_total", released="full") == 1
    assert value("intaglio_batches_total", released="busy") == 1
    assert value("intaglio_batch_samples_sum") == 5
    assert value("intaglio_queue_seconds_count") == 5


async def test_what_cannot_be_computed_in_time_is_refused_at_once(
    gate: Gate, batching: Build
) -> None:
    to = batcher(gate, batching(max_batch_size=1))
    slow = ask(to, 1)
    await turns()
    await asyncio.sleep(0.2)
    gate.let_through()
    await slow
    # One sample took 0.2 s; with one computed and one waiting, a third would take 0.6 s.
    busy = [ask(to, value) for value in (2, 3)]
    await turns()
    with pytest.raises(QueueFull):
        await ask(to, 4, timeout_s=0.5)
    patient = ask(to, 5, timeout_s=5.0)
    gate.open()
    await asyncio.gather(*busy, patient)


async def test_an_idle_engine_refuses_nobody_however_slow_it_was(
    gate: Gate, batching: Build
) -> None:
    to = batcher(gate, batching())
    slow = ask(to, 1)
    await turns()
    await asyncio.sleep(0.2)
    gate.open()
    await slow
    np.testing.assert_array_equal(await ask(to, 2, timeout_s=0.1), expected(2))

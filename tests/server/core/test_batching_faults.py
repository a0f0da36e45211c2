"""Callers that leave and computations that fail: neighbours are unharmed, the batcher lives on."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from server.batches import Computed
from server.batching import Batcher
from server.errors import InternalFailure
from server.metrics import Metrics
from server.settings import BatchingSettings
from server.worker import Worker
from tests.server.core.gate import Gate, expected, images, turns

pytestmark = pytest.mark.anyio

Build = Callable[..., BatchingSettings]
Asked = asyncio.Task[NDArray[np.float32]]


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def to(gate: Gate, batching: Build) -> Batcher[str]:
    return Batcher(gate.begin, settings=batching(), metrics=Metrics())


def ask(to: Batcher[str], *values: int) -> Asked:
    return asyncio.ensure_future(to.submit("a", images(*values), timeout_s=5.0))


async def still_serves(to: Batcher[str]) -> None:
    async with asyncio.timeout(2):
        np.testing.assert_array_equal(await ask(to, 200, 201), expected(200, 201))


async def test_a_caller_that_leaves_while_it_waits_costs_no_computation(
    gate: Gate, to: Batcher[str]
) -> None:
    first = ask(to, 0)
    await turns()
    leaves, stays = ask(to, 1), ask(to, 2)
    await turns()
    leaves.cancel()
    await turns()
    gate.open()
    await asyncio.gather(first, stays)
    assert [values for _, values in gate.batches] == [(0,), (2,)]
    await still_serves(to)


async def test_a_caller_that_leaves_while_it_is_computed_harms_nobody(
    gate: Gate, to: Batcher[str]
) -> None:
    leaves, stays = ask(to, 1), ask(to, 2)
    await turns()
    leaves.cancel()
    await turns()
    gate.open()
    np.testing.assert_array_equal(await stays, expected(2))
    assert leaves.cancelled()
    await still_serves(to)


async def test_the_rest_of_a_split_request_is_withdrawn_when_its_caller_leaves(
    gate: Gate, to: Batcher[str]
) -> None:
    leaves = ask(to, *range(12))
    await turns()
    leaves.cancel()
    await turns()
    gate.open()
    await still_serves(to)
    assert [values for _, values in gate.batches] == [(0, 1, 2, 3), (200, 201)]


async def test_everybody_leaving_leaves_an_empty_queue(gate: Gate, to: Batcher[str]) -> None:
    asked = [ask(to, value) for value in range(10)]
    await turns()
    for each in asked:
        each.cancel()
    await turns()
    gate.open()
    assert await to.drain(1.0)
    assert len(gate.batches) == 1


@pytest.mark.parametrize("guilty", range(4))
async def test_of_a_failing_batch_only_the_guilty_fail(
    gate: Gate, to: Batcher[str], guilty: int, caplog: pytest.LogCaptureFixture
) -> None:
    gate.fails = {guilty: RuntimeError("poisoned")}
    asked = [ask(to, value) for value in range(4)]
    gate.open()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    for value, answer in enumerate(answers):
        if value == guilty:
            assert isinstance(answer, InternalFailure)
            assert "poisoned" not in str(answer)
        else:
            np.testing.assert_array_equal(answer, expected(value))
    assert any("poisoned" in str(record.exc_info) for record in caplog.records)
    await still_serves(to)


async def test_a_chain_that_marks_a_whole_batch_is_retried_in_parts(
    gate: Gate, to: Batcher[str]
) -> None:
    def all_fail_with_a_seven(computed: Computed) -> Computed:
        seven = (computed.probabilities == expected(7)[0]).all(axis=1).any()
        failed = np.ones_like(computed.failed) if seven else computed.failed
        return Computed(computed.probabilities, failed)

    gate.reshape = all_fail_with_a_seven
    gate.open()
    answers = await asyncio.gather(
        ask(to, 5), ask(to, 6), ask(to, 7), ask(to, 8), return_exceptions=True
    )
    kinds = [isinstance(answer, InternalFailure) for answer in answers]
    assert kinds == [False, False, True, False]


async def test_a_failed_row_fails_only_its_own_request(gate: Gate, to: Batcher[str]) -> None:
    gate.marks = {2}
    gate.open()
    asked = [ask(to, 1), ask(to, 2, 3), ask(to, 4)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    np.testing.assert_array_equal(answers[0], expected(1))
    assert isinstance(answers[1], InternalFailure)
    np.testing.assert_array_equal(answers[2], expected(4))
    assert len(gate.batches) == 1


async def test_a_split_request_fails_as_soon_as_a_part_does(gate: Gate, to: Batcher[str]) -> None:
    gate.marks = {1}
    asked = ask(to, *range(12))
    await turns()
    gate.open()
    with pytest.raises(InternalFailure):
        await asked
    await still_serves(to)
    assert len(gate.batches) <= 3


@pytest.mark.parametrize(
    "wrong",
    [
        lambda computed: Computed(computed.probabilities[:-1], computed.failed),
        lambda computed: Computed(computed.probabilities[0], computed.failed),
        lambda computed: Computed(computed.probabilities, computed.failed[:-1]),
        lambda _: None,
    ],
    ids=["a row too few", "no batch dimension", "a mark too few", "nothing"],
)
async def test_answers_that_cannot_be_told_apart_are_not_given(
    gate: Gate, to: Batcher[str], wrong: Callable[[Computed], Computed]
) -> None:
    gate.open()
    gate.reshape = wrong
    answers = await asyncio.gather(ask(to, 1), ask(to, 2), return_exceptions=True)
    assert [type(answer) for answer in answers] == [InternalFailure, InternalFailure]
    gate.reshape = lambda computed: computed
    await still_serves(to)


async def test_metrics_that_raise_cost_nobody_an_answer(
    gate: Gate, to: Batcher[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate.open()
    with monkeypatch.context() as patch:
        patch.setattr(Metrics, "batch", lambda *_: 1 / 0)
        async with asyncio.timeout(1):
            np.testing.assert_array_equal(await ask(to, 1), expected(1))
    await still_serves(to)


@pytest.mark.parametrize(
    "error", [StopIteration(), SystemExit(3), KeyboardInterrupt(), GeneratorExit(), MemoryError()]
)
async def test_whatever_the_engine_raises_in_its_thread(
    batching: Build, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker("test")
    broken = True

    def compute(_: str, parts: Sequence[NDArray[np.uint8]], explain: NDArray[np.bool_]) -> Computed:
        if broken:
            raise error
        values = [int(value) for part in parts for value in part[:, 0, 0, 0]]
        return Computed(expected(*values), np.zeros(len(values), dtype=np.bool_))

    to: Batcher[str] = Batcher(
        lambda batches: worker.compute(batches, compute), settings=batching(), metrics=Metrics()
    )
    with caplog.at_level(logging.CRITICAL):
        with pytest.raises(InternalFailure):
            async with asyncio.timeout(2):
                await ask(to, 1)
        broken = False
        await still_serves(to)
    worker.close(wait=True)


def test_an_engine_that_outlives_the_event_loop_just_stops(batching: Build) -> None:
    worker = Worker("test")
    begun, go_on = threading.Event(), threading.Event()
    computed = []

    def compute(_: str, parts: Sequence[NDArray[np.uint8]], explain: NDArray[np.bool_]) -> Computed:
        begun.set()
        assert go_on.wait(5)
        computed.append(len(parts))
        return Computed(expected(1), np.zeros(1, dtype=np.bool_))

    async def leave_in_the_middle() -> list[Asked]:
        to: Batcher[str] = Batcher(
            lambda batches: worker.compute(batches, compute),
            settings=batching(max_batch_size=1),
            metrics=Metrics(),
        )
        asked = [ask(to, 1), ask(to, 2)]
        await asyncio.to_thread(begun.wait, 5)
        return asked

    asked = asyncio.run(leave_in_the_middle())
    assert all(each.cancelled() for each in asked)
    go_on.set()
    worker.close(wait=True)
    assert computed == [1]


async def test_a_call_gets_its_turn_between_two_batches(batching: Build) -> None:
    worker = Worker("test")
    order: list[str] = []

    def compute(_: str, parts: Sequence[NDArray[np.uint8]], explain: NDArray[np.bool_]) -> Computed:
        order.append("batch")
        time.sleep(0.02)
        return Computed(expected(1), np.zeros(1, dtype=np.bool_))

    to: Batcher[str] = Batcher(
        lambda batches: worker.compute(batches, compute),
        settings=batching(max_batch_size=1),
        metrics=Metrics(),
    )
    asked = [ask(to, 1) for _ in range(8)]
    await asyncio.sleep(0.01)
    await worker.call(order.append, "call")
    await asyncio.gather(*asked)
    assert order.index("call") < 4
    worker.close(wait=True)

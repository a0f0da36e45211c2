"""Ten times what the queue holds, for two seconds: everybody is answered, in time, correctly."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from server.batches import Computed
from server.batching import Batcher
from server.errors import DeadlinePassed, InternalFailure, QueueFull
from server.metrics import Metrics
from server.settings import BatchingSettings
from server.worker import Worker
from tests.server.core.gate import expected, images

pytestmark = pytest.mark.anyio

SECONDS = 2.0
QUEUE = 64
DEADLINE_S = 0.5


def compute(_: str, parts: Sequence[NDArray[np.uint8]], explain: NDArray[np.bool_]) -> Computed:
    values = np.concatenate(parts)[:, 0, 0, 0]
    time.sleep(0.002)  # releases the interpreter, as a forward pass does
    if 13 in values and len(parts) > 1:
        raise RuntimeError("a batch in which there is a 13")
    return Computed(expected(*values.tolist()), values == 66)


async def test_overload(metrics: Metrics) -> None:
    worker = Worker("soak")
    to: Batcher[str] = Batcher(
        lambda batches: worker.compute(batches, compute),
        settings=BatchingSettings(max_batch_size=8, queue_samples=QUEUE, deadline_s=DEADLINE_S),
        metrics=metrics,
    )
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    clock = asyncio.get_running_loop().time
    over = clock() + SECONDS

    async def caller(seed: int) -> None:
        nonlocal slowest
        chance = random.Random(seed)
        while clock() < over:
            values = [chance.randrange(256) for _ in range(chance.choice((1, 1, 1, 3, 20)))]
            began = clock()
            asked = asyncio.ensure_future(
                to.submit(chance.choice("abc"), images(*values), timeout_s=DEADLINE_S)
            )
            if chance.random() < 0.05:
                asyncio.get_running_loop().call_later(chance.random() * 0.05, asked.cancel)
            try:
                answer = await asked
            except QueueFull:
                outcomes["full"] += 1
                # A caller that asked again at once would be held at the door.
                await asyncio.sleep(0.1 * chance.random())
            except DeadlinePassed:
                outcomes["late"] += 1
            except InternalFailure:
                assert 66 in values
                outcomes["failed"] += 1
            except asyncio.CancelledError:
                outcomes["left"] += 1
            else:
                assert 66 not in values
                np.testing.assert_array_equal(answer, expected(*values))
                outcomes["answered"] += 1
                slowest = max(slowest, clock() - began)

    async with asyncio.timeout(30):
        await asyncio.gather(*(caller(seed) for seed in range(10 * QUEUE // 4)))
        assert await to.drain(1.0)
    worker.close(wait=True)
    assert outcomes["answered"] > 100, outcomes
    assert outcomes["full"] > 100, outcomes
    assert slowest < DEADLINE_S + 0.25
    for gauge in ("intaglio_in_flight_samples", "intaglio_queued_samples"):
        assert metrics.registry.get_sample_value(gauge) == 0

"""Requests of one caller do not starve one another."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import numpy as np
import pytest

from attack_client.attacks.knockoff import Knockoff
from attack_client.contract import Pool
from attack_client.errors import VictimError
from attack_client.http_victim import HttpVictim
from attack_client.retry import RetryPolicy
from attack_client.theft import steal
from attack_client.window import Window
from tests.attack_client.stub import Fault, LinearModel, Message, Receive, Send, Stub

BUSY_S = 0.02
"""What the busy stub takes for a request."""


class Busy(Stub):
    """Answers one request at a time, and refuses those that come in the meantime."""

    busy = False
    refusals = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            await super().__call__(scope, receive, send)
        elif self.busy:
            self.refusals += 1
            self.faults.append(Fault(503, headers=(("retry-after", str(BUSY_S / 2)),)))
            await super().__call__(scope, receive, send)
        else:
            self.busy = True
            await asyncio.sleep(BUSY_S)
            await super().__call__(scope, receive, send)
            self.busy = False


def test_a_victim_that_takes_one_request_at_a_time_answers_all(model: LinearModel) -> None:
    stub = Busy(model)

    async def run() -> list[int]:
        slots = asyncio.Semaphore(8)
        transport = httpx.ASGITransport(stub)
        patient = RetryPolicy(attempts=1000, base_s=BUSY_S / 4)
        async with HttpVictim("http://v:1", "toy", transport=transport, retry=patient) as it:

            async def ask() -> int:
                async with slots:
                    return (await it.query(model.images(1))).sends

            return await asyncio.gather(*(ask() for _ in range(30)))

    sends = asyncio.run(run())
    assert stub.refusals
    assert stub.samples == 30
    # Without an order some are sent 25 times and more, until most others are through.
    assert max(sends) <= 8


class Fails(Stub):
    """Refuses 8 requests, then 4, then 2; answers one, refuses the next for good, answers all."""

    def __init__(self, model: LinearModel) -> None:
        super().__init__(model)
        self.faults.extend([*[Fault(503)] * 14, None, Fault(400)])
        self.firsts_after_failure: list[bytes] = []
        self._seen: set[bytes] = set()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["method"] == "POST":
            key = dict(scope["headers"])[b"idempotency-key"]
            if not self.faults and key not in self._seen:
                self.firsts_after_failure.append(key)
            self._seen.add(key)
            await asyncio.sleep(BUSY_S)  # what goes out together is in flight together
        await super().__call__(scope, receive, send)


def test_what_waits_for_its_turn_is_not_sent_after_a_failure(
    model: LinearModel, tmp_path: Path
) -> None:
    stub = Fails(model)
    pool = Pool("noise", model.images(640), np.zeros(640, dtype=np.int64))

    async def at_once(_: float) -> None:
        await asyncio.sleep(0)

    async def run() -> None:
        transport = httpx.ASGITransport(stub)
        async with HttpVictim("http://v:1", "toy", transport=transport, sleep=at_once) as victim:
            await steal(
                victim, pool, Knockoff(), budget=640, out=tmp_path / "t", batch=16, concurrency=8
            )

    with pytest.raises(VictimError, match="answered 400"):
        asyncio.run(run())
    assert not stub.faults
    assert not stub.firsts_after_failure


def test_the_window_halves_once_for_what_was_in_flight_together() -> None:
    async def run() -> None:
        window = Window()
        async with AsyncExitStack() as stack:
            turns = [window.turn(window.place()) for _ in range(8)]
            told = [await stack.enter_async_context(turn) for turn in turns]
            for cuts in told:
                window.refused(cuts)
            assert window.size == 4.0
        for _ in range(3):
            async with window.turn(window.place()) as cuts:
                window.refused(cuts)
        assert window.size == 1.0
        window.answered()
        assert window.size == 2.0
        for _ in range(3):
            window.answered()
        assert 3.0 < window.size < 3.5

    asyncio.run(run())


def test_who_was_refused_goes_before_who_came_later() -> None:
    async def run() -> list[int]:
        window, order = Window(), list[int]()

        async def go(place: int) -> None:
            async with window.turn(place):
                order.append(place)

        old = window.place()
        first = window.place()
        async with window.turn(first) as cuts:
            window.refused(cuts)
            tasks = [asyncio.create_task(go(window.place())) for _ in range(3)]
            await asyncio.sleep(0)
            tasks.append(asyncio.create_task(go(old)))
            await asyncio.sleep(0)
            assert not order
        await asyncio.gather(*tasks)
        return order

    assert asyncio.run(run()) == [0, 2, 3, 4]


@pytest.mark.parametrize("admitted", [False, True])
def test_who_gives_up_leaves_room(admitted: bool) -> None:
    async def run() -> None:
        window = Window()

        async def go() -> None:
            async with window.turn(window.place()):
                pytest.fail("it was cancelled")

        async with window.turn(window.place()) as cuts:
            window.refused(cuts)
            leaves = asyncio.create_task(go())
            await asyncio.sleep(0)
            if not admitted:
                leaves.cancel()
                await asyncio.sleep(0)
        leaves.cancel()  # also just after it was admitted, before it could go on
        with pytest.raises(asyncio.CancelledError):
            await leaves
        async with asyncio.timeout(1), window.turn(window.place()):
            pass

    asyncio.run(run())

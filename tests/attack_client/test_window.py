"""Requests of one caller do not starve one another."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from attack_client.http_victim import HttpVictim
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
        slots = asyncio.Semaphore(4)
        async with HttpVictim("http://victim:1", "toy", transport=httpx.ASGITransport(stub)) as it:

            async def ask() -> int:
                async with slots:
                    return (await it.query(model.images(1))).sends

            return await asyncio.gather(*(ask() for _ in range(30)))

    sends = asyncio.run(run())
    assert stub.refusals
    assert stub.samples == 30
    # Without an order, some of the first four are still refused when most others are through.
    assert max(sends) <= 5


def test_the_window_shrinks_to_what_was_refused_and_grows_again() -> None:
    async def run() -> None:
        window = Window()
        async with window.turn(window.place()), window.turn(window.place()):
            window.refused()
        assert window.size == 1.0
        window.refused()
        assert window.size == 1.0
        for _ in range(6):
            window.answered()
        assert 2.0 < window.size < 2.5

    asyncio.run(run())


def test_who_was_refused_goes_before_who_came_later() -> None:
    async def run() -> list[int]:
        window, order = Window(), list[int]()

        async def go(place: int) -> None:
            async with window.turn(place):
                order.append(place)

        old = window.place()
        first = window.place()
        async with window.turn(first):
            window.refused()
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

        async with window.turn(window.place()):
            window.refused()
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

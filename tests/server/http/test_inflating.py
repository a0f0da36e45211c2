"""Compressed bodies: callers take turns at the threads, and nobody waits for ever or in vain."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import threading
from collections.abc import Iterator

import pytest

from server.protocol.body import inflate
from tests.server.http.asgi import Exchange
from tests.server.http.fakes import (
    DIGITS,
    CountingMetrics,
    FakePlane,
    app_for,
    encoded,
    picture,
)

PATH = "/v1/models/digits/predict"
HEADERS = {"content-type": "image/png", "content-encoding": "gzip"}
PNG = encoded(picture(DIGITS))
KEYS = ("much", "little")
AT_ONCE = os.cpu_count() or 1


class Held:
    """Takes the place of decompressing: nothing of it ends before ``go_on``."""

    def __init__(self) -> None:
        self.begun: list[bytes] = []
        self.some = threading.Event()
        self.go_on = threading.Event()

    def inflate(self, body: bytes | bytearray, coding: str, *, limit: int, tensors: bool) -> bytes:
        plain = inflate(body, coding, limit=limit, tensors=tensors)
        self.begun.append(plain)
        if len(self.begun) == AT_ONCE:
            self.some.set()
        assert self.go_on.wait(30)
        return plain

    async def busy(self) -> None:
        """Wait until every thread is at work."""
        assert await asyncio.to_thread(self.some.wait, 30)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    it = Held()
    monkeypatch.setattr("server.protocol.body.inflate", it.inflate)
    yield it
    it.go_on.set()


def sent(app: object, key: str, content: bytes = PNG) -> Exchange:
    assert callable(app)
    exchange = Exchange(app, PATH, {**HEADERS, "x-api-key": key})
    exchange.body(gzip.compress(content))
    return exchange


def test_whoever_sends_much_waits_for_itself(held: Held) -> None:
    async def scenario() -> None:
        app = app_for(FakePlane(), api_keys=KEYS)
        much = [sent(app, "much") for _ in range(4 * AT_ONCE)]
        await held.busy()
        little = sent(app, "little", b"no picture")
        for _ in range(100):  # nothing on its way to a thread waits for more than the loop
            await asyncio.sleep(0)
        held.go_on.set()
        await asyncio.wait_for(asyncio.gather(little.done, *(one.done for one in much)), 30)
        assert [one.status for one in much] == [200] * len(much)
        assert little.status == 400
        assert len(held.begun) == len(much) + 1
        # Behind what was at work, and what had taken its place meanwhile.
        assert held.begun.index(b"no picture") <= 2 * AT_ONCE

    asyncio.run(scenario())


def test_who_hangs_up_is_not_waited_for_and_what_waited_is_withdrawn(held: Held) -> None:
    async def scenario() -> None:
        metrics = CountingMetrics()
        app = app_for(FakePlane(), api_keys=KEYS, metrics=metrics)
        gone = [sent(app, "much") for _ in range(4 * AT_ONCE)]
        await held.busy()
        for exchange in gone:
            exchange.hang_up()
        await asyncio.wait_for(asyncio.gather(*(exchange.done for exchange in gone)), 30)
        assert [status for _, status, _ in metrics.requests] == [499] * len(gone)
        held.go_on.set()
        after = sent(app, "much")
        await asyncio.wait_for(after.done, 30)
        assert after.status == 200
        assert len(held.begun) == AT_ONCE + 1

    asyncio.run(scenario())


def test_the_deadline_holds_for_who_waits_for_a_turn(held: Held) -> None:
    async def scenario() -> None:
        metrics = CountingMetrics()
        app = app_for(FakePlane(), metrics=metrics, batching={"deadline_s": 0.05})
        late = [sent(app, "-") for _ in range(2 * AT_ONCE)]
        await asyncio.wait_for(asyncio.gather(*(exchange.done for exchange in late)), 20)
        assert [exchange.status for exchange in late] == [504] * len(late)
        assert json.loads(late[-1].sent[1]["body"]) == {"error": "deadline passed"}
        assert metrics.refusals == [("deadline", 0)] * len(late)

    asyncio.run(scenario())

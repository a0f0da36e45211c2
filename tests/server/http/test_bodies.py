"""Bodies that are too large, too slow, or never end; callers who leave."""

from __future__ import annotations

import asyncio
import gzip
import time
import zlib

import pytest

from server.errors import CallerGone
from server.routes.hang_up import unless_gone
from tests.server.http.asgi import Exchange
from tests.server.http.fakes import (
    DIGITS,
    CountingMetrics,
    FakePlane,
    app_for,
    call,
    encoded,
    error_of,
    picture,
)

V1, V2 = "/v1/models/digits/predict", "/v2/models/digits/infer"
PNG = {"content-type": "image/png"}
paths = pytest.mark.parametrize("path", [V1, V2])


@paths
def test_an_announced_body_over_the_limit_is_refused_unread(path: str) -> None:
    async def scenario() -> None:
        metrics = CountingMetrics()
        app = app_for(FakePlane(), metrics=metrics, limits={"max_body_bytes": 100})
        exchange = Exchange(app, path, {"content-length": "101", **PNG})
        await asyncio.wait_for(exchange.done, 5)
        assert exchange.status == 413
        assert exchange.received == 0
        assert metrics.refusals == [("too-large", 0)]

    asyncio.run(scenario())


@paths
def test_a_body_that_grows_over_the_limit_is_cut_off(path: str) -> None:
    async def scenario() -> None:
        app = app_for(FakePlane(), limits={"max_body_bytes": 100})
        exchange = Exchange(app, path, PNG)
        for _ in range(50):
            exchange.body(bytes(40), more=True)
        await asyncio.wait_for(exchange.done, 5)
        assert exchange.status == 413
        assert exchange.received == 120

    asyncio.run(scenario())


def test_the_limit_is_named() -> None:
    app = app_for(FakePlane(), limits={"max_body_bytes": 100})
    sentence = error_of(call(app, "POST", V1, content=bytes(101), headers=PNG), 413)
    assert sentence == "the body is larger than 100 bytes (limits.max_body_bytes)"


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
@paths
def test_a_compressed_bomb_is_refused(path: str, coding: str, pack: object) -> None:
    assert callable(pack)
    bomb = pack(bytes(64 * 2**20))
    assert len(bomb) < 2**17
    headers = {**PNG, "content-encoding": coding}
    started = time.perf_counter()
    sentence = error_of(
        call(app_for(FakePlane()), "POST", path, content=bomb, headers=headers), 413
    )
    assert time.perf_counter() - started < 5
    limit = "max_json_bytes" if path.startswith("/v2") else "max_body_bytes"
    assert f"bytes once decompressed (limits.{limit})" in sentence


@paths
def test_a_body_that_does_not_arrive_in_time_is_given_up(path: str) -> None:
    async def scenario() -> None:
        app = app_for(FakePlane(), limits={"body_timeout_s": 0.05})
        exchange = Exchange(app, path, PNG)
        exchange.body(b"half", more=True)
        await asyncio.wait_for(exchange.done, 5)
        assert exchange.status == 408
        assert exchange.headers["connection"] == "close"
        assert b"limits.body_timeout_s" in exchange.sent[1]["body"]

    asyncio.run(scenario())


@paths
def test_a_caller_who_leaves_half_way_is_not_asked_about(path: str) -> None:
    async def scenario() -> None:
        plane, metrics = FakePlane(), CountingMetrics()
        exchange = Exchange(app_for(plane, metrics=metrics), path, PNG)
        exchange.body(b"half", more=True)
        exchange.hang_up()
        await asyncio.wait_for(exchange.done, 5)
        assert not plane.asked
        assert metrics.refusals == [("cancelled", 0)]
        assert metrics.requests[0][1] == 499

    asyncio.run(scenario())


def test_a_caller_who_leaves_while_waiting_withdraws_the_work() -> None:
    async def scenario() -> None:
        plane, metrics = FakePlane(), CountingMetrics()
        plane.gate = asyncio.Event()
        exchange = Exchange(app_for(plane, metrics=metrics), V1, PNG)
        exchange.body(encoded(picture(DIGITS)))
        await asyncio.wait_for(plane.begun.wait(), 5)
        assert plane.cancelled == 0
        exchange.hang_up()
        await asyncio.wait_for(exchange.done, 5)
        assert plane.cancelled == 1
        assert metrics.requests[0][1] == 499
        # The plane was asked: it counts the withdrawal.
        assert metrics.refusals == []

    asyncio.run(scenario())


def test_a_neighbour_is_answered_when_another_caller_leaves() -> None:
    async def scenario() -> None:
        plane = FakePlane()
        plane.gate = asyncio.Event()
        app = app_for(plane)
        leaving, staying = (Exchange(app, V1, PNG) for _ in range(2))
        for exchange in (leaving, staying):
            exchange.body(encoded(picture(DIGITS)))
        while len(plane.asked) < 2:
            await asyncio.sleep(0.001)
        leaving.hang_up()
        await asyncio.wait_for(leaving.done, 5)
        plane.gate.set()
        await asyncio.wait_for(staying.done, 5)
        assert staying.status == 200
        assert plane.cancelled == 1

    asyncio.run(scenario())


def test_nothing_outlives_its_request() -> None:
    async def scenario() -> None:
        app = app_for(FakePlane())
        for _ in range(3):
            exchange = Exchange(app, V1, PNG)
            exchange.body(encoded(picture(DIGITS)))
            await exchange.done
            assert exchange.status == 200
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(scenario())


def test_a_request_that_the_server_cancels_takes_its_work_along() -> None:
    async def scenario() -> None:
        plane = FakePlane()
        plane.gate = asyncio.Event()
        exchange = Exchange(app_for(plane), V1, PNG)
        exchange.body(encoded(picture(DIGITS)))
        await asyncio.wait_for(plane.begun.wait(), 5)
        exchange.done.cancel()
        with pytest.raises(asyncio.CancelledError):
            await exchange.done
        assert plane.cancelled == 1

    asyncio.run(scenario())


def test_an_answer_that_is_there_wins_over_a_caller_who_leaves() -> None:
    async def scenario() -> None:
        async def answer() -> int:
            return 7

        async def gone() -> dict[str, str]:
            return {"type": "http.disconnect"}

        assert await unless_gone(gone, answer()) == 7

        async def failure() -> int:
            raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            await unless_gone(gone, failure())

        async def never() -> int:
            return await asyncio.Future()

        with pytest.raises(CallerGone):
            await unless_gone(gone, never())

    asyncio.run(scenario())

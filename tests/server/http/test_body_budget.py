"""What all bodies together may hold, and what hostile JSON may cost."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
import tracemalloc
from typing import Any

import numpy as np
import pytest

from server.body_budget import BodyBudget
from server.errors import BadRequest, QueueFull
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
    settings,
)

V1, V2 = "/v1/models/digits/predict", "/v2/models/digits/infer"
PNG = {"content-type": "image/png"}
LIMITS: dict[str, Any] = {"max_body_bytes": 1000, "max_buffered_bytes": 2000}


def test_a_budget_gives_back_what_a_lease_held() -> None:
    budget = BodyBudget(100)
    with budget.lease() as first, budget.lease() as second:
        first.hold(60)
        with pytest.raises(QueueFull, match=r"100 bytes .* \(limits\.max_buffered_bytes\)"):
            second.hold(41)
        second.hold(40)
        assert budget.held == 100
        first.release()
        assert budget.held == 40
    assert budget.held == 0
    first.hold(1000)  # by a thread whose request is gone
    assert budget.held == 0


def test_a_caller_has_a_share_and_leaves_the_rest_to_others() -> None:
    budget = BodyBudget(100, 60)
    with budget.lease("a") as first, budget.lease("a") as second, budget.lease("b") as other:
        first.hold(40)
        with pytest.raises(QueueFull, match=r"40 bytes .* \(limits\.max_caller_buffered_bytes\)"):
            second.hold(21)
        second.hold(20)
        other.hold(40)
        # The budget of all goes before what is left of a share.
        with pytest.raises(QueueFull, match=r"\(limits\.max_buffered_bytes\)"):
            other.hold(1)
        first.release()
        second.hold(40)
    assert budget.held == 0
    assert not budget._by_caller
    with budget.lease() as anybody:
        anybody.hold(100)


def test_one_key_cannot_fill_the_budget_of_all() -> None:
    async def scenario() -> None:
        limits = {"max_body_bytes": 1000, "max_buffered_bytes": 10_000}
        app = app_for(FakePlane(), api_keys=("many", "one"), limits=limits)

        def sent(key: str) -> Exchange:
            exchange = Exchange(app, V1, {**PNG, "x-api-key": key})
            exchange.body(bytes(1000), more=True)
            return exchange

        # A quarter of 10,000 bytes: two bodies, and not a third.
        held = [sent("many") for _ in range(2)]
        await asyncio.sleep(0.05)
        late, other = sent("many"), sent("one")
        await asyncio.wait_for(late.done, 5)
        assert late.status == 503
        assert late.headers["retry-after"] == "1"
        assert "limits.max_caller_buffered_bytes" in json.loads(late.sent[1]["body"])["error"]
        other.body(b"")
        await asyncio.wait_for(other.done, 5)
        assert other.status == 400
        for exchange in held:
            exchange.hang_up()
            await asyncio.wait_for(exchange.done, 5)

    asyncio.run(scenario())


@pytest.mark.parametrize("path", [V1, V2])
def test_bodies_over_the_budget_are_answered_503_and_freed_by_leaving(path: str) -> None:
    async def scenario() -> None:
        metrics = CountingMetrics()
        app = app_for(FakePlane(), metrics=metrics, limits=LIMITS)
        held = [Exchange(app, path, PNG) for _ in range(2)]
        for exchange in held:
            exchange.body(bytes(1000), more=True)
        await asyncio.sleep(0.05)
        late = Exchange(app, path, PNG)
        late.body(b"x", more=True)
        await asyncio.wait_for(late.done, 5)
        assert late.status == 503
        assert late.headers["retry-after"] == "1"
        assert b"limits.max_buffered_bytes" in json.loads(late.sent[1]["body"])["error"].encode()
        assert metrics.refusals == [("queue-full", 0)]
        held[0].hang_up()
        await asyncio.wait_for(held[0].done, 5)
        again = Exchange(app, path, PNG)
        again.body(b"x")
        await asyncio.wait_for(again.done, 5)
        assert again.status == 400
        held[1].hang_up()
        await asyncio.wait_for(held[1].done, 5)

    asyncio.run(scenario())


def test_who_waits_for_the_model_holds_nothing() -> None:
    async def scenario() -> None:
        plane = FakePlane()
        plane.gate = asyncio.Event()
        image = encoded(picture(DIGITS))
        limits = {"max_body_bytes": len(image), "max_buffered_bytes": 2 * len(image)}
        app = app_for(plane, limits=limits)
        waiting = [Exchange(app, V1, PNG) for _ in range(8)]
        async with asyncio.timeout(5):
            for index, exchange in enumerate(waiting):
                exchange.body(image)
                while len(plane.asked) <= index:
                    await asyncio.sleep(0.001)
        plane.gate.set()
        await asyncio.wait_for(asyncio.gather(*(exchange.done for exchange in waiting)), 5)
        assert [exchange.status for exchange in waiting] == [200] * 8

    asyncio.run(scenario())


def test_what_a_body_decompresses_to_counts() -> None:
    async def scenario() -> None:
        app = app_for(FakePlane(), limits=LIMITS)
        holding = Exchange(app, V1, PNG)
        holding.body(bytes(1000), more=True)
        await asyncio.sleep(0.05)
        packed = Exchange(app, V1, {**PNG, "content-encoding": "gzip"})
        packed.body(gzip.compress(bytes(1000)))  # fits alone, but 1000 more do not
        await asyncio.wait_for(packed.done, 5)
        assert packed.status == 503
        holding.hang_up()
        await asyncio.wait_for(holding.done, 5)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("path", "start", "unit", "limit"),
    [
        (V2, b'{"inputs": [{"name": "images", "data": [', b"[],", "max_json_bytes"),
        (V2, b'{"inputs": [{"name": "images", "data": [', b"1,", "max_json_bytes"),
        (V1, b'{"images": [', b'"",', "max_request_samples"),
        (V1, b'{"images": [', b"[],", "max_request_samples"),
    ],
)
def test_json_that_only_costs_memory_is_not_parsed(
    path: str, start: bytes, unit: bytes, limit: str
) -> None:
    body = gzip.compress(start + unit * (15 * 2**20 // len(unit)))
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    app = app_for(FakePlane())
    tracemalloc.start()
    began = time.perf_counter()
    try:
        refused = call(app, "POST", path, content=body, headers=headers)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert f"(limits.{limit})" in error_of(refused, 413)
    # The decompressed body, and nothing made from it.
    assert peak < 50 * 2**20
    assert time.perf_counter() - began < 2


@pytest.mark.parametrize("coding", ["identity", "gzip"])
@pytest.mark.parametrize("framed", [False, True])
def test_tensors_in_json_have_a_bound_of_their_own(
    monkeypatch: pytest.MonkeyPatch, coding: str, framed: bool
) -> None:
    parsed: list[bytes] = []

    def note(body: bytes, *_: Any, **__: Any) -> Any:
        parsed.append(body)
        raise BadRequest("seen")

    monkeypatch.setattr("server.routes.v2.decode_request", note)
    app = app_for(FakePlane(), limits={"max_json_bytes": 2000, "max_body_bytes": 9000})

    def sent(path: str, size: int) -> Any:
        body = gzip.compress(bytes(size)) if coding == "gzip" else bytes(size)
        headers = {"content-encoding": coding, "content-type": "application/json"}
        if framed:
            # As if binary tensors followed; none does.
            headers["inference-header-content-length"] = str(size)
        return call(app, "POST", path, content=body, headers=headers)

    assert error_of(sent(V2, 2000), 400) == "seen"
    sentence = error_of(sent(V2, 2001), 413)
    assert "2000 bytes" in sentence
    assert sentence.endswith("(limits.max_json_bytes); binary tensors take less")
    assert len(parsed) == 1
    # JSON of pictures is parsed quickly, and is as large as they are.
    assert "limits.max_json_bytes" not in error_of(sent(V1, 8000), 400)


def test_the_default_leaves_room_for_a_batch_of_colour_pictures() -> None:
    image = np.full((64, 3, 32, 32), 255, np.uint8)
    assert 2 * len(json.dumps(image.tolist())) < settings().limits.max_json_bytes


def test_the_bound_is_on_json_and_not_on_binary_tensors() -> None:
    images = np.zeros((1500, 1, 8, 8), np.uint8)
    part = {
        "name": "images",
        "datatype": "UINT8",
        "shape": list(images.shape),
        "parameters": {"binary_data_size": images.nbytes},
    }
    text = json.dumps({"inputs": [part]}).encode()
    headers = {"inference-header-content-length": str(len(text))}
    app = app_for(FakePlane(), batching={"queue_samples": 2000})
    refused = call(app, "POST", V2, content=text + images.tobytes(), headers=headers)
    assert error_of(refused, 413).startswith("a request may hold 256 images, not 1500")
    app = app_for(
        FakePlane(), limits={"max_request_samples": 1500}, batching={"queue_samples": 2000}
    )
    response = call(app, "POST", V2, content=text + images.tobytes(), headers=headers)
    assert response.status_code == 200

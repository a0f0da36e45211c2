"""A full server refuses at the door, cheaply and in its own words."""

from __future__ import annotations

import asyncio
import time

import pytest
from prometheus_client import generate_latest
from starlette.types import Message, Receive, Scope, Send

from server.errors import Draining, QueueFull, ServiceError
from server.metrics import Metrics
from server.middleware import shed
from server.middleware.shed import BURST, REFUSALS_PER_S, ShedAtTheDoor
from tests.server.http.fakes import FakePlane, app_for, call


def test_a_full_server_refuses_queries_before_it_reads_them() -> None:
    plane, metrics = FakePlane(), Metrics()
    app = app_for(plane, metrics=metrics)
    plane.crowded = QueueFull(retry_after=2.5)
    headers = {"x-request-id": "find-me"}
    refused = call(app, "POST", "/v2/models/digits/infer", content=b"not JSON", headers=headers)
    assert refused.status_code == 503
    assert refused.headers["x-request-id"] == "find-me"
    assert refused.json() == {"error": "the server is full, try again later"}
    assert refused.headers["retry-after"] == "3"
    assert plane.asked == []
    text = generate_latest(metrics.registry).decode()
    assert f'intaglio_refused_requests_total{{reason="{QueueFull.reason}"}} 1.0' in text
    assert 'intaglio_requests_total{route="door",status="503"} 1.0' in text


def test_questions_that_cost_nothing_are_answered_even_then() -> None:
    plane = FakePlane()
    plane.crowded = QueueFull()
    app = app_for(plane)
    assert call(app, "GET", "/v2/health/ready").status_code == 200
    assert call(app, "GET", "/v2/models/digits").status_code == 200


def test_with_room_for_one_the_request_is_read() -> None:
    app = app_for(FakePlane())
    assert call(app, "POST", "/v2/models/digits/infer", content=b"not JSON").status_code == 400


def refuse(reason: ServiceError, times: int) -> list[float]:
    """Seconds after which each of ``times`` refusals at once was given."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("nobody was to be let in")

    async def one(door: ShedAtTheDoor, sent: list[float]) -> None:
        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                assert message["status"] == 503
                sent.append(time.perf_counter() - began)

        async def receive() -> Message:
            raise AssertionError("the body was to be left alone")

        await door({"type": "http", "method": "POST"}, receive, send)

    async def all_of_them() -> list[float]:
        plane, sent = FakePlane(), list[float]()
        plane.crowded = reason
        door = ShedAtTheDoor(app, crowd=plane, recorder=None)
        await asyncio.gather(*(one(door, sent) for _ in range(times)))
        return sent

    began = time.perf_counter()
    return asyncio.run(all_of_them())


def test_a_few_refusals_leave_at_once_and_a_flood_of_them_at_a_bounded_rate() -> None:
    after = refuse(QueueFull(), BURST + 200)
    assert after[BURST] < after[-1] - 150 / REFUSALS_PER_S
    assert after[-1] >= 200 / REFUSALS_PER_S


def test_a_refusal_is_not_held_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shed, "LONGEST_S", 0.1)
    monkeypatch.setattr(shed, "REFUSALS_PER_S", 170)
    # At that rate the last of them would leave after 20 s.
    assert 0.1 <= refuse(QueueFull(), 3_400)[-1] < 10


def test_a_server_that_stops_says_so_at_once() -> None:
    assert refuse(Draining(), 200)[-1] < 100 / REFUSALS_PER_S

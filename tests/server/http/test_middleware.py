"""Request ids, request metrics, and what nobody expected."""

from __future__ import annotations

import asyncio
import logging

import pytest
from starlette.types import Message, Receive, Scope, Send

from server.errors import InternalFailure
from server.metrics import Metrics
from server.middleware.opaque_failures import OpaqueFailures
from server.middleware.request_id import RequestId
from server.middleware.request_metrics import RequestMetrics
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

PNG = {"content-type": "image/png"}


async def teapot(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 418, "headers": []})
    await send({"type": "http.response.body", "body": b"short and stout"})


async def half_an_answer(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    raise RuntimeError("secret detail")


def test_every_answer_carries_an_id_of_its_own() -> None:
    app = app_for(FakePlane())
    names = {call(app, "GET", path).headers["x-request-id"] for path in ("/v2", "/v2", "/nothing")}
    assert len(names) == 3


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("trace-1.a_B", True),
        ("x" * 64, True),
        ("x" * 65, False),
        ("a b", False),
        ("a\tb", False),
        ("", False),
        ("é", False),
    ],
)
def test_an_id_is_taken_from_the_caller_where_it_is_harmless(given: str, kept: bool) -> None:
    headers = {b"x-request-id": given.encode("latin-1")}
    response = call(RequestId(teapot), "GET", "/", headers=headers)  # type: ignore[arg-type]
    assert (response.headers["x-request-id"] == given) is kept


def test_requests_are_counted_by_template_never_by_path() -> None:
    metrics = CountingMetrics()
    app = app_for(FakePlane(), metrics=metrics)
    call(app, "GET", "/v1/models/digits")
    call(app, "GET", "/v1/models/nobody")
    call(app, "GET", "/v2/models/digits/infer")
    call(app, "GET", "/made/up/by/the/caller")
    call(app, "POST", "/v1/models/digits/predict", content=encoded(picture(DIGITS)), headers=PNG)
    assert [(route, status) for route, status, _ in metrics.requests] == [
        ("/v1/models/{name}", 200),
        ("/v1/models/{name}", 404),
        ("/v2/models/{name}/infer", 405),
        ("other", 404),
        ("/v1/models/{name}/predict", 200),
    ]
    assert all(0.0 < seconds < 10.0 for _, _, seconds in metrics.requests)


def test_the_real_metrics_take_what_is_reported() -> None:
    metrics = Metrics()
    app = app_for(FakePlane(), metrics=metrics)
    call(app, "GET", "/v1/models/digits")
    call(app, "POST", "/v1/models/digits/predict", content=b"?", headers=PNG)
    value = metrics.registry.get_sample_value
    labels = {"route": "/v1/models/{name}", "status": "200"}
    assert value("intaglio_requests_total", labels) == 1
    assert value("intaglio_refused_requests_total", {"reason": "bad-request"}) == 1


def test_what_nobody_expected_is_logged_here_and_told_to_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    plane, metrics = FakePlane(), CountingMetrics()
    plane.failure = RuntimeError("secret detail")
    app = app_for(plane, metrics=metrics)
    response = call(
        app,
        "POST",
        "/v1/models/digits/predict",
        content=encoded(picture(DIGITS)),
        headers={**PNG, "x-request-id": "find-me"},
    )
    assert error_of(response, 500) == InternalFailure.default
    assert response.headers["x-request-id"] == "find-me"
    assert metrics.requests[0][1] == 500
    record = next(record for record in caplog.records if record.levelno == logging.ERROR)
    assert "find-me" in record.getMessage()
    assert record.exc_info is not None
    assert "secret detail" in str(record.exc_info[1])


def test_a_failure_after_half_an_answer_is_left_to_the_server() -> None:
    metrics = CountingMetrics()
    app = RequestMetrics(OpaqueFailures(half_an_answer), recorder=metrics)
    with pytest.raises(RuntimeError, match="secret detail"):
        call(app, "GET", "/")
    assert len(metrics.requests) == 1


@pytest.mark.parametrize("kind", [RequestId, OpaqueFailures])
def test_other_scopes_pass_through(kind: type[RequestId] | type[OpaqueFailures]) -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        del message

    asyncio.run(kind(app)({"type": "lifespan"}, receive, send))
    metrics = CountingMetrics()
    asyncio.run(RequestMetrics(app, recorder=metrics)({"type": "lifespan"}, receive, send))
    assert seen == ["lifespan", "lifespan"]
    assert metrics.requests == []

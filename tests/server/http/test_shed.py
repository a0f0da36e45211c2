"""A full server refuses at the door, cheaply and in its own words."""

from __future__ import annotations

from prometheus_client import generate_latest

from server.errors import QueueFull
from server.metrics import Metrics
from tests.server.http.fakes import FakePlane, app_for, call


def test_a_full_server_refuses_queries_before_it_reads_them() -> None:
    plane, metrics = FakePlane(), Metrics()
    app = app_for(plane, metrics=metrics)
    plane.crowded = QueueFull(retry_after=2.5)
    refused = call(app, "POST", "/v2/models/digits/infer", content=b"not even JSON")
    assert refused.status_code == 503
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

"""The operator's port."""

from __future__ import annotations

import httpx
import pytest

from server.admin import create_admin_app
from server.metrics import Metrics

pytestmark = pytest.mark.anyio


@pytest.fixture
def operator(metrics: Metrics) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=create_admin_app(metrics))
    return httpx.AsyncClient(transport=transport, base_url="http://operator")


async def test_metrics_are_told(operator: httpx.AsyncClient, metrics: Metrics) -> None:
    metrics.answered("digits", 3)
    for path in ("/metrics", "/metrics/"):
        answer = await operator.get(path)
        assert answer.status_code == 200
        assert 'intaglio_samples_total{model="digits"} 3.0' in answer.text
        assert "process_resident_memory_bytes" in answer.text


async def test_it_lives(operator: httpx.AsyncClient) -> None:
    answer = await operator.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"live": True})


async def test_there_is_nothing_else(operator: httpx.AsyncClient) -> None:
    for path in ("/", "/v2", "/metrics/x", "/docs"):
        answer = await operator.get(path)
        assert answer.status_code == 404
        assert list(answer.json()) == ["error"]
    answer = await operator.post("/metrics")
    assert answer.status_code == 405
    assert sorted(answer.headers["allow"].split(", ")) == ["GET", "HEAD"]

"""What a trace tells, and what it does not."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from collections.abc import Callable

import httpx
import numpy as np
import pytest
import torch
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from server.app import create_app
from server.engine import Engine
from server.logs import REQUEST, JsonFormatter
from server.metrics import Metrics
from server.repository import load_models
from server.serving import InferenceService
from server.settings import Settings, TracingSettings
from server.tracing import Traces

KEY = "a key that nobody may see"
COLLECTOR = "http://127.0.0.1:4318/v1/traces"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def traced(
    settings: Callable[..., Settings], metrics: Metrics, exporter: InMemorySpanExporter
) -> Callable[..., list[httpx.Response]]:
    """Ask a real server, traced, several requests at once; returns when every span is there."""

    def ask(*bodies: dict[str, object], share: float = 1.0) -> list[httpx.Response]:
        given = settings(
            models={
                "m": {
                    "victim": "digits/2",
                    "defenses": [{"kind": "top-k", "k": 3}, {"kind": "rounding", "decimals": 2}],
                    "explanations": {"interpreter": "grad-cam", "unprotected": True},
                }
            },
            api_keys=[KEY],
            threads=1,
        )
        traces = Traces(TracingSettings(endpoint=COLLECTOR, share=share), exporter)

        async def run() -> list[httpx.Response]:
            device = torch.device("cpu")
            engine = Engine(device, secret=b"0" * 32, metrics=metrics, threads=1)
            models = load_models(given, device)
            service = InferenceService(models, engine, settings=given, metrics=metrics)
            await service.start()
            app = create_app(service, given, metrics, traces=traces)
            transport = httpx.ASGITransport(app)
            headers = {
                "authorization": f"Bearer {KEY}",
                "traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01",
                "x-request-id": "chosen-by-a-caller",
            }
            async with httpx.AsyncClient(
                transport=transport, base_url="http://x", headers=headers
            ) as client:
                path = "/v2/models/m/infer"
                answers = await asyncio.gather(*(client.post(path, json=body) for body in bodies))
            await service.drain()
            return answers

        answers = asyncio.run(run())
        traces.close()
        return answers

    return ask


def body(samples: int, *, explain: bool = False) -> dict[str, object]:
    images = np.random.default_rng(samples).integers(0, 256, (samples, 1, 12, 12))
    tensor = {"name": "images", "datatype": "UINT8", "shape": list(images.shape)}
    outputs = ["probabilities", *(["attributions"] if explain else [])]
    return {
        "inputs": [{**tensor, "data": images.ravel().tolist()}],
        "outputs": [{"name": name} for name in outputs],
    }


def seconds(span: ReadableSpan) -> tuple[float, float]:
    assert span.start_time is not None
    assert span.end_time is not None
    return span.start_time / 1e9, span.end_time / 1e9


def test_a_request_is_told_in_its_phases(
    traced: Callable[..., list[httpx.Response]], exporter: InMemorySpanExporter
) -> None:
    (answer,) = traced(body(3))
    assert answer.status_code == 200
    spans = {span.name: span for span in exporter.get_finished_spans() if span.name != "defense"}
    links = [span for span in exporter.get_finished_spans() if span.name == "defense"]
    route = "/v2/models/{name}/infer"
    assert spans.keys() == {route, "queue", "forward"}
    request = spans[route]
    assert request.parent is None
    for span in (*links, spans["queue"], spans["forward"]):
        assert span.parent is not None
        assert span.parent.span_id == request.context.span_id
        assert seconds(request)[0] - 0.01 <= seconds(span)[0] <= seconds(span)[1]
        assert seconds(span)[1] <= seconds(request)[1] + 0.01
    assert [link.attributes["intaglio.defense"] for link in links if link.attributes] == [
        *("top-k", "rounding")
    ]
    # Queue, forward pass and links follow each other.
    steps = [seconds(spans["queue"]), seconds(spans["forward"]), *map(seconds, links)]
    for (_, ended), (began, _) in itertools.pairwise(steps):
        assert began >= ended - 1e-4
    assert request.attributes is not None
    assert dict(request.attributes) == {
        "http.request.method": "POST",
        "http.route": route,
        "http.response.status_code": 200,
    }


def test_maps_are_a_phase_of_their_own(
    traced: Callable[..., list[httpx.Response]], exporter: InMemorySpanExporter
) -> None:
    (answer,) = traced(body(2, explain=True))
    assert answer.status_code == 200
    assert "explanation" in {span.name for span in exporter.get_finished_spans()}


def test_requests_of_one_batch_have_a_trace_each(
    traced: Callable[..., list[httpx.Response]], exporter: InMemorySpanExporter
) -> None:
    traced(*(body(samples) for samples in range(1, 6)))
    spans = exporter.get_finished_spans()
    assert len({span.context.trace_id for span in spans}) == 5
    assert sum(span.name == "forward" for span in spans) == 5


def test_nothing_tells_who_asked_or_what(
    traced: Callable[..., list[httpx.Response]], exporter: InMemorySpanExporter
) -> None:
    refused = {"inputs": [{"name": "images", "datatype": "UINT8", "shape": [1], "data": [77]}]}
    statuses = [answer.status_code for answer in traced(body(2), refused)]
    assert statuses == [200, 400]
    told = "".join(span.to_json() for span in exporter.get_finished_spans())
    for secret in (KEY, "chosen-by-a-caller", "ab" * 16, "127.0.0.1", "key-", "digits/2", "[77]"):
        assert secret not in told
    names = {name for span in exporter.get_finished_spans() for name in span.attributes or ()}
    assert names == {
        "http.request.method",
        "http.route",
        "http.response.status_code",
        "intaglio.batch.samples",
        "intaglio.defense",
    }


def test_a_share_of_none_is_none(
    traced: Callable[..., list[httpx.Response]], exporter: InMemorySpanExporter
) -> None:
    (answer,) = traced(body(1), share=0.0)
    assert answer.status_code == 200
    assert not exporter.get_finished_spans()


def test_a_line_of_the_log_says_for_which_request() -> None:
    record = logging.LogRecord("server.x", logging.ERROR, "x.py", 1, "failed", (), None)
    assert "request_id" not in json.loads(JsonFormatter().format(record))
    token = REQUEST.set("abc")
    try:
        assert json.loads(JsonFormatter().format(record))["request_id"] == "abc"
    finally:
        REQUEST.reset(token)

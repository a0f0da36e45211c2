"""The operator's routes: who gets through, what they do, and the shapes that clients expect."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.routing import Route

from server.admin import create_admin_app
from server.admission import Caller
from server.app import create_app
from server.callers.authority import AdminAuthority
from server.errors import Forbidden, Unauthorized
from server.logs import current_level, set_level
from server.metrics import Metrics
from server.settings import Settings
from tests.server.core.conftest import write
from tests.server.core.running import NOISE, Running

pytestmark = pytest.mark.anyio

OPEN = {"/metrics", "/metrics/", "/healthz", "/healthz/", "/v2/health/live", "/v2/health/ready"}
KEY = {"authorization": "Bearer admin"}


class OneKey:
    """Knows one operator, and one caller who is none."""

    async def authorise(self, headers: Mapping[str, str]) -> Caller:
        key = headers.get("authorization", "")
        if key == "Bearer admin":
            return Caller("key-admin", scopes=frozenset({"admin"}))
        raise Forbidden if key else Unauthorized


@pytest.fixture
async def operator(running: Running, metrics: Metrics) -> AsyncIterator[httpx.AsyncClient]:
    app = create_admin_app(metrics, OneKey(), running.service, running.reloads)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://operator") as client:
        client.headers.update(KEY)
        yield client


def routes(running: Running, metrics: Metrics) -> dict[str, set[str]]:
    app = create_admin_app(metrics, OneKey(), running.service, running.reloads)
    found: dict[str, set[str]] = {}
    for route in app.routes:
        assert isinstance(route, Route)
        found.setdefault(route.path, set()).update(route.methods or ())
    return found


async def test_everything_but_counters_and_health_needs_the_scope(
    running: Running, metrics: Metrics, operator: httpx.AsyncClient
) -> None:
    asked = 0
    for path, methods in routes(running, metrics).items():
        for method in methods - {"HEAD"}:
            place = path.format(name="digits", version="1")
            for key, status in (("", 401), ("Bearer caller", 403)):
                answer = await operator.request(method, place, headers={"authorization": key})
                assert (answer.status_code == 200) == (path in OPEN), (method, path)
                if path not in OPEN:
                    asked += 1
                    assert answer.status_code == status
                    assert list(answer.json()) == ["error"]
    assert asked >= 20
    assert len(running.service.catalogue.entry("digits").versions) == 1


async def test_where_no_key_can_have_the_scope_nobody_operates(
    running: Running, metrics: Metrics
) -> None:
    app = create_admin_app(metrics, AdminAuthority(None), running.service, running.reloads)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://operator") as client:
        for place in ("/admin/reload", "/v2/repository/models/digits/unload"):
            assert (await client.post(place)).status_code == 403
        assert (await client.get("/metrics")).status_code == 200


async def test_the_callers_port_has_none_of_it(
    running: Running, metrics: Metrics, settings: Any
) -> None:
    given: Settings = settings(**running.given)
    app = create_app(running.service, given, metrics)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        for path, methods in routes(running, metrics).items():
            # The protocol's own metadata and health are on both ports, each with its own words.
            if path in {"/v2", "/v2/health/live", "/v2/health/ready"}:
                continue
            for method in methods - {"HEAD"}:
                place = path.format(name="digits", version="1")
                answer = await client.request(method, place, headers=KEY)
                assert answer.status_code in {404, 501}, (method, path, answer.status_code)
        extensions = (await client.get("/v2")).json()["extensions"]
        assert not {"model_repository", "statistics", "logging"} & set(extensions)
    assert "digits" in running.service.catalogue


async def test_the_repository_extension(running: Running, operator: httpx.AsyncClient) -> None:
    index = (await operator.post("/v2/repository/index")).json()
    assert index == [
        {"name": "digits", "version": "1", "state": "READY", "reason": ""},
        {"name": "letters", "version": "1", "state": "READY", "reason": ""},
    ]
    unload = "/v2/repository/models/digits/unload"
    done = await operator.post(unload, json={"parameters": {"unload_dependents": False}})
    assert (done.status_code, done.content) == (200, b"")
    assert (await operator.post(unload)).status_code == 404
    index = (await operator.post("/v2/repository/index", json={})).json()
    assert {"name": "digits", "state": "UNAVAILABLE", "reason": "unloaded"} in index
    index = (await operator.post("/v2/repository/index", json={"ready": True})).json()
    assert [record["name"] for record in index] == ["letters"]
    load = "/v2/repository/models/digits/load"
    for body in ({"parameters": {"config": "{}"}}, {"parameters": {"file:1/model.pt": "AA"}}):
        refused = await operator.post(load, json=body)
        assert refused.status_code == 400
        assert "no parameter is taken" in refused.json()["error"]
    done = await operator.post(load, json={})
    assert (done.status_code, done.content) == (200, b"")
    assert running.service.view("digits").version == "1"
    assert (await operator.post("/v2/repository/models/nobody/load")).status_code == 404


async def test_a_name_that_nothing_has_is_no_failed_change(
    running: Running, metrics: Metrics, operator: httpx.AsyncClient
) -> None:
    sound = "intaglio_repository_last_change_succeeded"
    for action in ("load", "unload"):
        answer = await operator.post(f"/v2/repository/models/digitz/{action}")
        assert answer.status_code == 404
        assert "digitz" in answer.json()["error"]
        assert running.count(action, "refused") == 1
        assert metrics.registry.get_sample_value(sound) == 1
    # Nor is it one that was put right.
    running.given["models"] = {"digits": {"victim": "nobody"}}
    assert (await operator.post("/admin/reload")).status_code == 400
    assert (await operator.post("/v2/repository/models/digitz/load")).status_code == 404
    assert metrics.registry.get_sample_value(sound) == 0


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v2/repository/index", b"[1]", 400),
        ("/v2/repository/index", b"{", 400),
        ("/v2/repository/index", b'{"ready": 1}', 400),
        ("/v2/repository/models/digits/unload", b'{"parameters": {"x": 1}}', 400),
        ("/v2/repository/models/digits/unload", b'{"parameters": []}', 400),
        ("/admin/reload", b'{"config": "elsewhere"}', 400),
        ("/admin/reload", b" " * 70_000, 413),
        ("/v2/logging", b'{"log_info": "yes"}', 400),
        ("/v2/logging", b'{"log_error": false}', 400),
        ("/v2/logging", b'{"log_info": true, "log_warning": false}', 400),
        ("/v2/logging", b'{"log_verbose_level": -1}', 400),
        ("/v2/logging", b'{"log_file": "/etc/passwd"}', 400),
    ],
)
async def test_bodies_that_mean_nothing_are_refused(
    operator: httpx.AsyncClient, path: str, body: bytes, status: int
) -> None:
    answer = await operator.post(path, content=body)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]


async def test_statistics_count_samples_and_batches(
    running: Running, operator: httpx.AsyncClient
) -> None:
    view = running.service.view("digits")
    await running.service.predict(view, NOISE)
    await asyncio.gather(*(running.service.predict(view, NOISE[:1]) for _ in range(3)))
    late = asyncio.ensure_future(running.service.predict(view, NOISE))
    await asyncio.sleep(0)
    late.cancel()
    await asyncio.gather(late, return_exceptions=True)
    answer = await operator.get("/v2/models/digits/versions/1/stats")
    (stats,) = answer.json()["model_stats"]
    assert (stats["name"], stats["version"], stats["inference_count"]) == ("digits", "1", 7)
    assert stats["last_inference"] > 1_600_000_000_000
    kinds = stats["inference_stats"]
    assert kinds["success"]["count"] == 4
    assert kinds["fail"]["count"] == 1
    assert kinds["cache_hit"] == {"count": 0, "ns": 0}
    for phase in ("queue", "compute_input", "compute_infer", "compute_output"):
        assert kinds[phase]["count"] >= 4
        assert kinds[phase]["ns"] > 0
    assert stats["execution_count"] == sum(
        size["compute_infer"]["count"] for size in stats["batch_stats"]
    )
    sizes = {size["batch_size"]: size["compute_infer"]["count"] for size in stats["batch_stats"]}
    assert sizes.get(4)
    both = (await operator.get("/v2/models/stats")).json()["model_stats"]
    assert [one["name"] for one in both] == ["digits", "letters"]
    assert (await operator.get("/v2/models/nobody/stats")).status_code == 404
    assert (await operator.get("/v2/models/digits/versions/9/stats")).status_code == 404


async def test_reload_says_what_it_did_or_why_it_did_not(
    running: Running, operator: httpx.AsyncClient
) -> None:
    write(running.given["model_dir"], "digits", "2", "victim", seed=2)
    answer = await operator.post("/admin/reload")
    assert answer.json() == {
        "loaded": ["digits/2"],
        "kept": ["digits/1", "letters/1"],
        "unloaded": [],
    }
    running.given["models"] = {"digits": {"victim": "nobody"}}
    refused = await operator.post("/admin/reload")
    assert refused.status_code == 400
    assert "models.digits.victim: there is no bundle 'nobody'" in refused.json()["error"]
    assert running.service.view("letters").version == "1"


async def test_drain_and_resume(running: Running, operator: httpx.AsyncClient) -> None:
    assert (await operator.post("/admin/drain")).json() == {"ready": False}
    assert (await operator.get("/v2/health/ready")).status_code == 503
    assert not running.service.ready
    assert (await operator.post("/admin/resume")).json() == {"ready": True}
    assert (await operator.get("/v2/health/ready")).status_code == 200
    assert np.isfinite(await running.say("digits")).all()


async def test_the_log_level_changes_while_it_runs(
    operator: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    before = current_level()
    uvicorn = logging.getLogger("uvicorn").level
    try:
        for given, level in (
            ({"log_verbose_level": 1}, "debug"),
            ({"log_verbose_level": 0}, "info"),
            ({"log_info": False}, "warning"),
            ({"log_warning": False}, "error"),
        ):
            answer = await operator.post("/v2/logging", json=given)
            assert answer.status_code == 200, answer.text
            assert answer.json() == (await operator.get("/v2/logging")).json()
            assert current_level() == level
        assert answer.json() == {
            "log_error": True,
            "log_warning": False,
            "log_info": False,
            "log_verbose_level": 0,
        }
    finally:
        set_level(before)
        logging.getLogger("uvicorn").setLevel(uvicorn)


async def test_who_changes_something_is_logged(
    operator: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await operator.post("/v2/repository/models/digits/unload")
    assert "key-admin: POST /v2/repository/models/digits/unload" in caplog.text

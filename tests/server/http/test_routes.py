"""Which routes there are, who may use them, and in what form errors leave."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI

from server.app import create_app
from tests.server.http.fakes import FakePlane, app_for, call, error_of, settings

OPEN = {
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("GET", "/v2/health/live"),
    ("GET", "/v2/health/ready"),
}
KEYED = {
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{name}"),
    ("GET", "/v1/usage"),
    ("POST", "/v1/models/{name}/predict"),
    ("POST", "/v1/models/{name}/versions/{version}/predict"),
    ("POST", "/v1/models/{name}/explain"),
    ("POST", "/v1/models/{name}/versions/{version}/explain"),
    ("GET", "/v2"),
    ("GET", "/v2/models/{name}"),
    ("GET", "/v2/models/{name}/versions/{version}"),
    ("GET", "/v2/models/{name}/ready"),
    ("GET", "/v2/models/{name}/versions/{version}/ready"),
    ("POST", "/v2/models/{name}/infer"),
    ("POST", "/v2/models/{name}/versions/{version}/infer"),
}
UNSUPPORTED = {
    ("GET", "/v2/models/{name}/config"),
    ("GET", "/v2/models/{name}/versions/{version}/config"),
    ("GET", "/v2/models/{name}/stats"),
    ("GET", "/v2/models/{name}/versions/{version}/stats"),
    ("POST", "/v2/repository/index"),
    ("POST", "/v2/repository/models/{name}/load"),
    ("POST", "/v2/repository/models/{name}/unload"),
    ("GET", "/v2/logging"),
    ("POST", "/v2/logging"),
    ("GET", "/v2/trace/setting"),
    ("POST", "/v2/trace/setting"),
    ("GET", "/v2/models/{name}/trace/setting"),
    ("POST", "/v2/models/{name}/trace/setting"),
    ("GET", "/v2/{kind}sharedmemory/{path:path}"),
    ("POST", "/v2/{kind}sharedmemory/{path:path}"),
}


def routes_of(app: FastAPI) -> set[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    for route in app.routes:
        methods: set[str] = getattr(route, "methods", set())
        found |= {(method, str(getattr(route, "path", route))) for method in methods}
    return found - {("HEAD", "/docs"), ("HEAD", "/openapi.json")}


def concrete(template: str) -> str:
    for part, value in (
        ("{name}", "digits"),
        ("{version}", "1"),
        ("{kind}", "system"),
        ("{path:path}", "status"),
    ):
        template = template.replace(part, value)
    return template


def test_these_are_all_the_routes_of_the_callers_port() -> None:
    app = create_app(FakePlane(), settings())
    assert routes_of(app) == OPEN | KEYED | UNSUPPORTED


def test_the_openapi_page_can_be_turned_off() -> None:
    app = create_app(FakePlane(), settings(docs=False))
    assert (
        routes_of(app)
        == {
            ("GET", "/v2/health/live"),
            ("GET", "/v2/health/ready"),
        }
        | KEYED
        | UNSUPPORTED
    )


def test_metrics_and_administration_are_not_on_the_callers_port() -> None:
    app = app_for(FakePlane())
    for path in ("/metrics", "/healthz", "/v2/models/digits/statistics", "/admin"):
        error_of(call(app, "GET", path), 404)


@pytest.mark.parametrize(("method", "template"), sorted(KEYED | UNSUPPORTED))
def test_a_key_is_asked_for_everywhere_but_where_it_is_not(method: str, template: str) -> None:
    app = app_for(FakePlane(), api_keys=("correct horse", "battery staple"))
    path = concrete(template)
    refused = call(app, method, path)
    assert "API key" in error_of(refused, 401)
    assert refused.headers["www-authenticate"] == "Bearer"
    error_of(call(app, method, path, headers={"authorization": "Bearer wrong"}), 401)
    for headers in (
        {"authorization": "Bearer correct horse"},
        {"authorization": "bearer  battery staple "},
        {"x-api-key": "battery staple"},
    ):
        assert call(app, method, path, headers=headers).status_code != 401


@pytest.mark.parametrize(("method", "path"), sorted(OPEN))
def test_health_and_the_openapi_page_are_open(method: str, path: str) -> None:
    app = app_for(FakePlane(), api_keys=("secret",))
    assert call(app, method, path).status_code == 200


@pytest.mark.parametrize(("method", "template"), sorted(UNSUPPORTED))
def test_extensions_that_are_not_implemented_say_so(method: str, template: str) -> None:
    assert "not supported" in error_of(call(app_for(FakePlane()), method, concrete(template)), 501)


@pytest.mark.parametrize(
    ("method", "path", "status", "sentence"),
    [
        ("GET", "/", 404, "there is nothing at /"),
        ("GET", "/v2/", 404, "there is nothing at /v2/"),
        ("GET", "/v1/models/digits/", 404, "there is nothing at /v1/models/digits/"),
        ("GET", "/v2/models/digits/infer", 405, "GET is not allowed at /v2/models/digits/infer"),
        ("DELETE", "/v1/models/digits", 405, "DELETE is not allowed at /v1/models/digits"),
        ("GET", "/v1/models/nobody", 404, "there is no model 'nobody'"),
        ("GET", "/v2/models/nobody", 404, "there is no model 'nobody'"),
        ("GET", "/v2/models/digits/versions/9", 404, "model 'digits' has no version '9'"),
        ("GET", "/v2/models/nobody/ready", 404, "there is no model 'nobody'"),
        ("POST", "/v1/models/nobody/predict", 404, "there is no model 'nobody'"),
        ("POST", "/v2/models/nobody/infer", 404, "there is no model 'nobody'"),
        ("POST", "/v2/models/digits/versions/9/infer", 404, "has no version '9'"),
        ("POST", "/v1/models/digits/versions/9/predict", 404, "has no version '9'"),
        ("POST", "/v1/models/digits/predict?top_k=many", 400, "top_k: input should be a valid"),
        ("POST", "/v1/models/digits/predict?top_k=0", 400, "top_k: input should be greater"),
    ],
)
def test_every_error_is_one_sentence(method: str, path: str, status: int, sentence: str) -> None:
    assert sentence in error_of(call(app_for(FakePlane()), method, path), status)


def test_metadata_names_inputs_and_outputs_and_nothing_else() -> None:
    app = app_for(FakePlane())
    assert call(app, "GET", "/v2/models/digits").json() == {
        "name": "digits",
        "versions": ["1", "2"],
        "platform": "pytorch_safetensors",
        "inputs": [{"name": "images", "datatype": "UINT8", "shape": [-1, 1, 8, 8]}],
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]}],
    }
    described: dict[str, Any] = {
        "name": "digits",
        "version": "2",
        "versions": ["1", "2"],
        "input": {"channels": 1, "height": 8, "width": 8},
        "labels": list("0123456789"),
    }
    assert call(app, "GET", "/v1/models/digits").json() == described
    listed = call(app, "GET", "/v1/models").json()["models"]
    assert [model["name"] for model in listed] == ["digits", "colours"]
    assert listed[0] == described


def test_the_server_advertises_what_it_implements() -> None:
    server = call(app_for(FakePlane()), "GET", "/v2").json()
    assert server["name"] == "intaglio"
    assert server["extensions"] == ["binary_tensor_data", "parameters"]


def test_readiness_follows_the_plane() -> None:
    plane = FakePlane()
    app = app_for(plane)
    ready = ["/v2/health/ready", "/v2/models/digits/ready", "/v2/models/digits/versions/1/ready"]
    for path in ready:
        assert call(app, "GET", path).json()["ready"] is True
    plane.ready_now = False
    for path in ready:
        error_of(call(app, "GET", path), 503)
    assert call(app, "GET", "/v2/health/live").json() == {"live": True}

"""The OpenAPI page: its examples are sent as they stand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.dataplane import ModelView
from tests.server.http.fakes import COLOURS, DIGITS, EXPLAINED, FakePlane, app_for, call

PREDICT = "/v1/models/{name}/predict"
EXPLAIN = "/v1/models/{name}/explain"
INFER = "/v2/models/{name}/infer"


def schema_of(plane: FakePlane, **settings: Any) -> dict[str, Any]:
    schema: dict[str, Any] = call(app_for(plane, **settings), "GET", "/openapi.json").json()
    return schema


@pytest.mark.parametrize("view", [DIGITS, COLOURS], ids=lambda view: view.name)
@pytest.mark.parametrize("path", [PREDICT, INFER])
def test_the_examples_work_when_pasted(view: ModelView, path: str) -> None:
    plane = FakePlane(view)
    operation = schema_of(plane)["paths"][path]["post"]
    parameter = next(p for p in operation["parameters"] if p["name"] == "name")
    example = operation["requestBody"]["content"]["application/json"]["example"]
    response = call(
        app_for(plane),
        "POST",
        path.replace("{name}", parameter["example"]),
        content=json.dumps(example).encode(),
        headers={"content-type": "application/json"},
    )
    assert response.status_code == 200, response.text
    if path == PREDICT:
        assert len(response.json()["predictions"][0]["labels"]) == example["top_k"]


def test_the_example_of_an_explanation_works_when_pasted() -> None:
    plane = FakePlane(EXPLAINED)
    operation = schema_of(plane)["paths"][EXPLAIN]["post"]
    example = operation["requestBody"]["content"]["application/json"]["example"]
    answer = call(
        app_for(plane),
        "POST",
        EXPLAIN.replace("{name}", "digits"),
        content=json.dumps(example).encode(),
        headers={"content-type": "application/json"},
    ).json()
    described = operation["responses"]["200"]["content"]
    assert set(described) == {"application/json", "image/png"}
    shown = described["application/json"]["example"]
    assert list(shown) == list(answer)
    assert list(shown["explanations"][0]) == list(answer["explanations"][0])


def test_every_kind_of_body_is_described() -> None:
    paths = schema_of(FakePlane())["paths"]
    bodies = paths[PREDICT]["post"]["requestBody"]["content"]
    assert set(bodies) == {
        "application/json",
        "multipart/form-data",
        "image/png",
        "image/jpeg",
        "image/webp",
    }
    bodies = paths[INFER]["post"]["requestBody"]["content"]
    assert set(bodies) == {"application/json", "application/octet-stream"}


def test_errors_are_described_as_they_are() -> None:
    schema = schema_of(FakePlane())
    for operations in schema["paths"].values():
        for operation in operations.values():
            assert "422" not in operation["responses"]
            reference = operation["responses"]["default"]["content"]["application/json"]["schema"]
            assert reference == {"$ref": "#/components/schemas/Error"}
    assert schema["components"]["schemas"]["Error"]["required"] == ["error"]


def test_every_reference_of_the_schema_leads_somewhere() -> None:
    schema = schema_of(FakePlane())
    text = json.dumps(schema)
    for part in text.split('"$ref": "#/')[1:]:
        node: Any = schema
        for key in part.partition('"')[0].split("/"):
            node = node[key]


def test_keys_are_asked_for_everywhere_but_for_health() -> None:
    schema = schema_of(FakePlane())
    schemes = set(schema["components"]["securitySchemes"])
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            asked = {name for option in operation.get("security", ()) for name in option}
            assert asked == (set() if path.startswith("/v2/health") else schemes)


def test_the_open_schema_names_no_model_where_keys_are_needed_to_list_them() -> None:
    private = ModelView("hush", "1", ("1",), DIGITS.input, ("secret-label", "b"))
    text = json.dumps(schema_of(FakePlane(private), api_keys=("k",)))
    assert "hush" not in text
    assert "secret-label" not in text


def test_a_tensor_too_large_to_read_is_no_example() -> None:
    large = ModelView(
        "large",
        "1",
        ("1",),
        DIGITS.input.model_copy(update={"height": 224, "width": 224}),
        ("a", "b"),
    )
    content = schema_of(FakePlane(large))["paths"][INFER]["post"]["requestBody"]["content"]
    assert "example" not in content["application/json"]


def test_the_page_itself_is_served() -> None:
    response = call(app_for(FakePlane()), "GET", "/docs")
    assert response.status_code == 200
    assert "/openapi.json" in response.text

"""Explanations on the callers' port: JSON, a picture, a tensor that has to be named."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.explain import Extent
from server.admission import Caller, Grant, OpenAdmission
from server.heat_map import heat_map
from server.protocol.accept import prefers
from server.protocol.v2 import encode_response
from server.routes import v2
from tests.server.http.fakes import (
    COLOURS,
    EXPLAINED,
    FakePlane,
    answer_for,
    app_for,
    call,
    encoded,
    error_of,
    map_for,
    picture,
)

EXPLAIN = "/v1/models/digits/explain"
PNG = {"content-type": "image/png"}
PICTURE = {**PNG, "accept": "image/png"}


def many(*seeds: int) -> tuple[bytes, dict[str, str]]:
    texts = [base64.b64encode(encoded(picture(EXPLAINED, seed))).decode() for seed in seeds]
    return json.dumps({"images": texts, "top_k": 2}).encode(), {"content-type": "application/json"}


def test_labels_are_those_of_predict_and_the_map_explains_the_first() -> None:
    content, headers = many(0, 1, 2)
    app = app_for(FakePlane(EXPLAINED, COLOURS))
    said = call(app, "POST", EXPLAIN, content=content, headers=headers)
    assert said.status_code == 200
    assert said.headers["content-type"] == "application/json"
    assert said.headers["vary"] == "accept, accept-encoding"
    body = said.json()
    assert (body["model"], body["version"]) == ("digits", "2")
    predicted = call(
        app, "POST", "/v1/models/digits/predict", content=content, headers=headers
    ).json()["predictions"]
    images = np.stack([picture(EXPLAINED, seed) for seed in (0, 1, 2)])
    maps = map_for(images, EXPLAINED)
    for index, explanation in enumerate(body["explanations"]):
        assert list(explanation) == ["labels", "explains", "attributions"]
        assert explanation["labels"] == predicted[index]["labels"]
        assert explanation["explains"] == explanation["labels"][0]["label"]
        np.testing.assert_allclose(explanation["attributions"], maps[index], atol=1e-7)
        assert len(json.dumps(explanation["attributions"])) < 16 * 8, "three decimals each"


def test_a_picture_of_one_image_under_its_heat() -> None:
    said = call(
        app_for(FakePlane(EXPLAINED, COLOURS)),
        "POST",
        EXPLAIN,
        content=encoded(picture(EXPLAINED)),
        headers=PICTURE,
    )
    assert said.status_code == 200
    assert said.headers["content-type"] == "image/png"
    assert "accept" in said.headers["vary"]
    drawn = Image.open(io.BytesIO(said.content))
    assert (drawn.format, drawn.mode, drawn.size) == ("PNG", "RGB", (224, 224))


def test_a_picture_of_several_images_is_refused_before_they_are_decoded() -> None:
    content, headers = many(0, 1)
    plane = FakePlane(EXPLAINED, COLOURS)
    said = call(
        app_for(plane), "POST", EXPLAIN, content=content, headers={**headers, "accept": "image/png"}
    )
    assert "explains one image, not 2" in error_of(said, 400)
    assert plane.asked == []


def test_more_than_a_request_may_cost_is_refused_before_anything_is_decoded() -> None:
    plane = FakePlane(EXPLAINED, COLOURS)
    app = app_for(plane, limits={"max_request_samples": 8})
    garbage = json.dumps({"images": [base64.b64encode(b"no image").decode()] * 3}).encode()
    headers = {"content-type": "application/json"}
    said = call(app, "POST", EXPLAIN, content=garbage, headers=headers)
    assert error_of(said, 413) == (
        "an explained image counts as 4 samples, of which a request may ask for 8 "
        "(limits.max_request_samples); this one explains 3 images"
    )
    content, headers = many(0, 1)
    assert call(app, "POST", EXPLAIN, content=content, headers=headers).status_code == 200
    assert plane.explained == 2, "images, all at once"


@pytest.mark.parametrize(("binary", "coding", "off"), [(0, "", 1), (1, "gzip", 1), (1, "", 0)])
def test_large_maps_do_not_hold_up_the_event_loop(
    monkeypatch: pytest.MonkeyPatch, binary: int, coding: str, off: int
) -> None:
    threads: list[threading.Thread] = []

    def recorded(**given: Any) -> Any:
        threads.append(threading.current_thread())
        return encode_response(**given)

    monkeypatch.setattr(v2, "encode_response", recorded)
    large = EXPLAINED.input.model_copy(update={"height": 80, "width": 80})
    view = replace(EXPLAINED, input=large, maps=(80, 80))
    image = picture(view)
    tensor = {
        "name": "images",
        "datatype": "UINT8",
        "shape": [1, *image.shape],
        "data": image.ravel().tolist(),
    }
    named = {"name": "attributions", "parameters": {"binary_data": bool(binary)}}
    answer = call(
        app_for(FakePlane(view, COLOURS)),
        "POST",
        "/v2/models/digits/infer",
        content=json.dumps({"inputs": [tensor], "outputs": [named]}).encode(),
        headers={"accept-encoding": coding},
    )
    assert answer.status_code == 200
    assert [thread is not threading.main_thread() for thread in threads] == [bool(off)]


@pytest.mark.parametrize("version", ["", "/versions/1"])
def test_versions_and_models_without_explanations(version: str) -> None:
    app = app_for(FakePlane(EXPLAINED, COLOURS))
    content = encoded(picture(EXPLAINED))
    path = f"/v1/models/digits{version}/explain"
    assert call(app, "POST", path, content=content, headers=PNG).status_code == 200
    plain = f"/v1/models/colours{version}/explain"
    answer = call(app, "POST", plain, content=b"never read", headers=PNG)
    assert error_of(answer, 404) == "model 'colours' has no explanations"
    absent = call(app, "POST", "/v1/models/nobody/explain", content=content, headers=PNG)
    assert "no model 'nobody'" in error_of(absent, 404)


def infer(outputs: list[dict[str, Any]] | None, model: str = "digits") -> Any:
    view = EXPLAINED if model == "digits" else COLOURS
    image = picture(view)
    tensor = {
        "name": "images",
        "datatype": "UINT8",
        "shape": [1, *image.shape],
        "data": image.ravel().tolist(),
    }
    query: dict[str, Any] = {"inputs": [tensor]}
    if outputs is not None:
        query["outputs"] = outputs
    plane = FakePlane(EXPLAINED, COLOURS)
    answer = call(
        app_for(plane), "POST", f"/v2/models/{model}/infer", content=json.dumps(query).encode()
    )
    return plane, answer


def test_the_tensor_of_maps_must_be_named() -> None:
    plane, answer = infer(None)
    assert [output["name"] for output in answer.json()["outputs"]] == ["probabilities"]
    assert plane.explained == 0
    plane, answer = infer([{"name": "attributions"}, {"name": "probabilities"}])
    maps, probabilities = answer.json()["outputs"]
    assert maps["name"] == "attributions"
    assert (maps["datatype"], maps["shape"]) == ("FP32", [1, 4, 4])
    image = picture(EXPLAINED)[None]
    np.testing.assert_array_equal(
        np.array(maps["data"], dtype=np.float32), map_for(image, EXPLAINED).ravel()
    )
    np.testing.assert_array_equal(
        np.array(probabilities["data"], dtype=np.float32), answer_for(image, 10).ravel()
    )
    assert plane.explained == 1


def test_maps_leave_as_bytes_too_and_alone() -> None:
    _, answer = infer([{"name": "attributions", "parameters": {"binary_data": True}}])
    length = int(answer.headers["inference-header-content-length"])
    raw = np.frombuffer(answer.content[length:], dtype="<f4").reshape(1, 4, 4)
    np.testing.assert_array_equal(raw, map_for(picture(EXPLAINED)[None], EXPLAINED))


def test_a_model_without_explanations_has_no_such_output() -> None:
    _, answer = infer([{"name": "attributions"}], "colours")
    assert "there is no output 'attributions'" in error_of(answer, 400)


def test_metadata_lists_maps_where_there_are_some() -> None:
    app = app_for(FakePlane(EXPLAINED, COLOURS))
    outputs = {
        name: call(app, "GET", f"/v2/models/{name}").json()["outputs"]
        for name in ("digits", "colours")
    }
    assert outputs["digits"][1] == {
        "name": "attributions",
        "datatype": "FP32",
        "shape": [-1, 4, 4],
        "parameters": {"cost": 4},
    }
    assert [output["name"] for output in outputs["colours"]] == ["probabilities"]


def test_an_explanation_is_admitted_at_its_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    charged: list[int] = []

    async def admit(self: OpenAdmission, caller: Caller, samples: int, *_: Any, **__: Any) -> Grant:
        charged.append(samples)
        await asyncio.sleep(0)
        return Grant()

    monkeypatch.setattr(OpenAdmission, "admit", admit)
    content, headers = many(0, 1, 2)
    app = app_for(FakePlane(EXPLAINED, COLOURS))
    for path in (EXPLAIN, "/v1/models/digits/predict"):
        call(app, "POST", path, content=content, headers=headers)
    assert charged == [12, 3]


@pytest.mark.parametrize(
    ("accept", "picture_wanted"),
    [
        (None, False),
        ("*/*", False),
        ("image/png", True),
        ("image/*", True),
        ("application/json, image/png", False),
        ("application/json;q=0.5, image/png", True),
        ("image/png;q=0.1, */*;q=0.2", False),
        ("text/html, image/PNG ; q=0.9, */*;q=0.8", True),
        ("image/png;q=high", False),
        ("image/png;level=1", True),
        ("", False),
    ],
)
def test_what_the_caller_would_rather_have(accept: str | None, picture_wanted: bool) -> None:
    assert prefers(accept, "image/png", over="application/json") is picture_wanted


@pytest.mark.parametrize("channels", [1, 3])
def test_heat_covers_what_is_hot_and_nothing_else(channels: int) -> None:
    image = np.full((channels, 8, 8), 120, dtype=np.uint8)
    field = np.zeros((8, 8), dtype=np.float32)
    field[:, 4:] = 1.0
    drawn = np.asarray(Image.open(io.BytesIO(heat_map(image, field))))
    assert drawn.shape == (224, 224, 3)
    assert (drawn[:, :90] == 120).all()
    assert (drawn[:, -90:].astype(int) - [120, 120, 120] != 0).any(axis=2).all()
    assert drawn[0, -1].astype(int).sum() > 3 * 120, "hot is bright"


def test_a_large_picture_keeps_its_size() -> None:
    image = np.zeros((3, 300, 400), dtype=np.uint8)
    drawn = Image.open(io.BytesIO(heat_map(image, np.zeros((4, 4), dtype=np.float32))))
    assert drawn.size == (400, 300)


def test_a_strip_is_no_wall() -> None:
    drawn = Image.open(
        io.BytesIO(heat_map(np.zeros((1, 1, 400), np.uint8), np.ones((1, 4), np.float32)))
    )
    assert drawn.size == (800, 2)


def test_heat_stays_within_its_extent() -> None:
    image = np.full((1, 8, 8), 120, dtype=np.uint8)
    hot = np.ones((3, 3), dtype=np.float32)
    drawn = np.asarray(Image.open(io.BytesIO(heat_map(image, hot, Extent(2, 4, 6, 7)))))
    changed = (drawn != 120).any(axis=2)
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    assert (rows[0], rows[-1] + 1) == (2 * 28, 6 * 28)
    assert (columns[0], columns[-1] + 1) == (4 * 28, 7 * 28)


def test_a_model_tells_how_large_its_maps_are_and_what_they_cover() -> None:
    placed = replace(EXPLAINED, map_extent=Extent(1.0, 2.0, 7.0, 6.0))
    app = app_for(FakePlane(placed, COLOURS))
    described = call(app, "GET", "/v1/models/digits").json()["attributions"]
    assert described == {
        "height": 4,
        "width": 4,
        "top": 1.0,
        "left": 2.0,
        "bottom": 7.0,
        "right": 6.0,
        "cost": 4,
    }
    assert "attributions" not in call(app, "GET", "/v1/models/colours").json()

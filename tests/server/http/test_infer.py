"""``POST /v2/models/{name}/infer``: every encoding, recorded bodies of tritonclient, errors."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from server.dataplane import ModelView
from server.errors import QueueFull
from tests.server.http.fakes import (
    COLOURS,
    DIGITS,
    CountingMetrics,
    FakePlane,
    answer_for,
    app_for,
    call,
    encoded,
    error_of,
    picture,
)

PATH = "/v2/models/digits/infer"
LENGTH = "inference-header-content-length"

RECORDED = np.arange(128, dtype=np.uint8).reshape(2, 1, 8, 8)
"""The images of both recorded bodies (tritonclient 2.73.0)."""

RECORDED_BINARY = base64.b64decode(
    "eyJpZCI6ImdvbGRlbiIsImlucHV0cyI6W3sibmFtZSI6ImltYWdlcyIsInNoYXBlIjpbMiwxLDgsOF0sImRhdGF0"
    "eXBlIjoiVUlOVDgiLCJwYXJhbWV0ZXJzIjp7ImJpbmFyeV9kYXRhX3NpemUiOjEyOH19XSwicGFyYW1ldGVycyI6"
    "eyJwcmlvcml0eSI6MiwidGltZW91dCI6NTAwMDAwMCwiYmluYXJ5X2RhdGFfb3V0cHV0Ijp0cnVlfX0AAQIDBAUG"
    "BwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyAhIiMkJSYnKCkqKywtLi8wMTIzNDU2Nzg5Ojs8PT4/QEFCQ0RFRkdI"
    "SUpLTE1OT1BRUlNUVVZXWFlaW1xdXl9gYWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXp7fH1+fw=="
)
RECORDED_GZIP = base64.b64decode(
    "H4sIADRKAWsC/3WNV1uDMABF3XvvPeLWOMCFuLd11NW6sGKQlEZZkqBSRP+6qY9+n6/3nntuCIgOZGA4po5tAAGx"
    "XZ9RICshsJGFeUUsZGDKK5pBLg8UEQpQglIKAh0xxIJcCJKxeELikIs8PmPY444QaMRGXqDmOJWSLAcFUYoiPnV8"
    "9vfI9RwNacQkjPz+/asCchqZFHNPlJdfUFhUXFJaVl5RWVVdU1tX39DY1NzS2tbe0dnV3dPb1w8GBoeGR0bHxifg"
    "5NT0jCDOzs0vLEpL8vLK6tr6xubW9s7u3v5B7PDo+CR+enZ+cZlIXl3f3N4p96kH9RFpTzpOGxny/GJatuO+epT5"
    "b+8fQTb8jL6+fwB3oAREPwEAAA=="
)
RECORDED_LENGTH = {LENGTH: "191"}


def request_for(
    images: NDArray[np.uint8], *, binary: bool, **more: Any
) -> tuple[bytes, dict[str, str]]:
    part: dict[str, Any] = {"name": "images", "datatype": "UINT8", "shape": list(images.shape)}
    if not binary:
        part["data"] = images.reshape(-1).tolist()
        return json.dumps({"inputs": [part], **more}).encode(), {}
    raw = images.tobytes()
    part["parameters"] = {"binary_data_size": len(raw)}
    text = json.dumps({"inputs": [part], **more}).encode()
    return text + raw, {LENGTH: str(len(text))}


def probabilities(response: httpx.Response) -> NDArray[np.float32]:
    assert response.status_code == 200, response.text
    length = response.headers.get(LENGTH)
    if length is None:
        assert response.headers["content-type"] == "application/json"
        output = response.json()["outputs"][0]
        flat = np.array(output["data"], dtype=np.float32)
    else:
        assert response.headers["content-type"] == "application/octet-stream"
        output = json.loads(response.content[: int(length)])["outputs"][0]
        raw = response.content[int(length) :]
        assert len(raw) == output["parameters"]["binary_data_size"]
        flat = np.frombuffer(raw, "<f4").astype(np.float32)
    assert output["name"] == "probabilities"
    assert output["datatype"] == "FP32"
    rows: NDArray[np.float32] = flat.reshape(output["shape"])
    return rows


@pytest.mark.parametrize("batch", [1, 7])
@pytest.mark.parametrize("view", [DIGITS, COLOURS], ids=lambda view: view.name)
def test_every_encoding_gives_the_same_numbers(view: ModelView, batch: int) -> None:
    app = app_for(FakePlane())
    images = np.stack([picture(view, seed) for seed in range(batch)])
    expected = answer_for(images, len(view.labels))
    for binary_in in (False, True):
        for binary_out in (False, True):
            for coding, pack in ((None, None), ("gzip", gzip.compress), ("deflate", zlib.compress)):
                body, headers = request_for(
                    images, binary=binary_in, parameters={"binary_data_output": binary_out}
                )
                if coding is not None and pack is not None:
                    body = pack(body)
                    headers |= {"content-encoding": coding, "accept-encoding": coding}
                path = f"/v2/models/{view.name}/infer"
                response = call(app, "POST", path, content=body, headers=headers)
                assert (LENGTH in response.headers) == binary_out
                np.testing.assert_array_equal(probabilities(response), expected)
                # The shape, and nothing else, decides whether there is enough to compress.
                large = expected.size * 4 >= 512
                if large:
                    assert response.headers.get("content-encoding") == coding


def test_one_image_gives_the_same_numbers_through_v1_and_v2() -> None:
    app = app_for(FakePlane())
    image = picture(DIGITS)
    v2 = []
    for binary in (False, True):
        body, headers = request_for(
            image[np.newaxis], binary=binary, parameters={"binary_data_output": binary}
        )
        v2.append(probabilities(call(app, "POST", PATH, content=body, headers=headers))[0])
    labels = call(
        app,
        "POST",
        "/v1/models/digits/predict",
        content=encoded(image),
        headers={"content-type": "image/png"},
    ).json()["predictions"][0]["labels"]
    v1 = {entry["label"]: np.float32(entry["probability"]) for entry in labels}
    np.testing.assert_array_equal(v2[0], v2[1])
    np.testing.assert_array_equal(v2[0], [v1[label] for label in DIGITS.labels])


def test_a_recorded_binary_body_of_tritonclient() -> None:
    plane = FakePlane()
    response = call(app_for(plane), "POST", PATH, content=RECORDED_BINARY, headers=RECORDED_LENGTH)
    assert LENGTH in response.headers
    assert json.loads(response.content[: int(response.headers[LENGTH])])["id"] == "golden"
    np.testing.assert_array_equal(probabilities(response), answer_for(RECORDED, 10))
    _, version, images, timeout_s = plane.asked[0]
    assert version == DIGITS.version
    np.testing.assert_array_equal(images, RECORDED)
    # 5,000,000 microseconds, less what decoding took; its priority is not its own to choose.
    assert timeout_s is not None
    assert 0.0 < timeout_s <= 5.0


def test_a_recorded_compressed_body_of_tritonclient() -> None:
    headers = {**RECORDED_LENGTH, "content-encoding": "gzip"}
    response = call(app_for(FakePlane()), "POST", PATH, content=RECORDED_GZIP, headers=headers)
    assert LENGTH not in response.headers
    assert response.json()["id"] == "golden"
    np.testing.assert_array_equal(probabilities(response), answer_for(RECORDED, 10))


def test_the_response_says_who_answered_and_nothing_more() -> None:
    body, headers = request_for(picture(DIGITS)[np.newaxis], binary=False)
    answer = call(app_for(FakePlane()), "POST", PATH, content=body, headers=headers).json()
    assert set(answer) == {"model_name", "model_version", "outputs"}
    assert answer["model_name"] == "digits"
    assert answer["model_version"] == "2"
    assert set(answer["outputs"][0]) == {"name", "datatype", "shape", "data"}


def test_a_version_in_the_path_reaches_the_plane() -> None:
    plane = FakePlane()
    body, headers = request_for(picture(DIGITS)[np.newaxis], binary=True)
    path = "/v2/models/digits/versions/1/infer"
    assert call(app_for(plane), "POST", path, content=body, headers=headers).status_code == 200
    assert plane.asked[0][1] == "1"


def test_a_large_body_is_decoded_off_the_event_loop_alike() -> None:
    images = np.random.default_rng(0).integers(0, 256, (200, 3, 4, 6), dtype=np.uint8)
    images = np.concatenate([images] * 6)
    body, headers = request_for(images, binary=True, parameters={"binary_data_output": True})
    assert len(body) > 64 * 1024
    app = app_for(
        FakePlane(), limits={"max_request_samples": 2000}, batching={"queue_samples": 2000}
    )
    response = call(app, "POST", "/v2/models/colours/infer", content=body, headers=headers)
    np.testing.assert_array_equal(probabilities(response), answer_for(images, 200))


@pytest.mark.parametrize(
    ("stated", "least", "most"),
    [(None, 9.0, 10.0), (0, 9.0, 10.0), (2_000_000, 1.0, 2.0), (10**12, 9.0, 10.0)],
)
def test_a_timeout_is_in_microseconds_and_capped(
    stated: int | None, least: float, most: float
) -> None:
    plane = FakePlane()
    parameters = {} if stated is None else {"timeout": stated}
    body, headers = request_for(picture(DIGITS)[np.newaxis], binary=True, parameters=parameters)
    call(app_for(plane), "POST", PATH, content=body, headers=headers)
    timeout_s = plane.asked[0][3]
    assert timeout_s is not None
    assert least < timeout_s <= most


def test_a_timeout_that_passes_while_decoding_is_a_deadline() -> None:
    plane, metrics = FakePlane(), CountingMetrics()
    body, headers = request_for(picture(DIGITS)[np.newaxis], binary=True, parameters={"timeout": 1})
    app = app_for(plane, metrics=metrics)
    error_of(call(app, "POST", PATH, content=body, headers=headers), 504)
    assert not plane.asked
    assert metrics.refusals == [("deadline", 1)]


@pytest.mark.parametrize(
    ("shape", "status", "sentence"),
    [
        ((0, 1, 8, 8), 400, "at least one image"),
        ((1, 1, 8, 9), 400, "inputs[0].shape is [1, 1, 8, 9] but 'images' is [-1, 1, 8, 8]"),
        ((1, 64), 400, "inputs[0].shape is [1, 64]"),
        ((257, 1, 8, 8), 413, "a request may hold 256 images, not 257 (limits.max_request_"),
    ],
)
@pytest.mark.parametrize("binary", [False, True])
def test_a_wrong_shape_is_refused(
    shape: tuple[int, ...], status: int, sentence: str, binary: bool
) -> None:
    plane = FakePlane()
    body, headers = request_for(np.zeros(shape, np.uint8), binary=binary)
    assert sentence in error_of(
        call(app_for(plane), "POST", PATH, content=body, headers=headers), status
    )
    assert not plane.asked


def test_only_declared_outputs_can_be_asked_for() -> None:
    for name in ("logits", "victim", "attributions"):
        body, headers = request_for(
            picture(DIGITS)[np.newaxis], binary=True, outputs=[{"name": name}]
        )
        response = call(app_for(FakePlane()), "POST", PATH, content=body, headers=headers)
        assert error_of(response, 400) == f"outputs[0].name: there is no output '{name}'"


def test_a_compressed_body_that_is_not_is_refused() -> None:
    app = app_for(FakePlane())
    body, headers = request_for(picture(DIGITS)[np.newaxis], binary=True)
    response = call(
        app, "POST", PATH, content=body, headers={**headers, "content-encoding": "gzip"}
    )
    assert "not valid gzip" in error_of(response, 400)
    for coding in ("br", "gzip, deflate", "zstd"):
        response = call(
            app, "POST", PATH, content=body, headers={**headers, "content-encoding": coding}
        )
        assert "content-encoding must be" in error_of(response, 415)


def test_a_full_queue_tells_when_to_come_back() -> None:
    plane = FakePlane()
    plane.failure = QueueFull(retry_after=4.2)
    body, headers = request_for(picture(DIGITS)[np.newaxis], binary=True)
    response = call(app_for(plane), "POST", PATH, content=body, headers=headers)
    error_of(response, 503)
    assert response.headers["retry-after"] == "5"


def test_refusals_before_the_plane_are_counted_once_with_their_reason() -> None:
    plane, metrics = FakePlane(), CountingMetrics()
    app = app_for(plane, metrics=metrics, api_keys=("k",))
    body, headers = request_for(np.zeros((300, 1, 8, 8), np.uint8), binary=True)
    call(app, "POST", PATH, content=body, headers=headers)
    headers["x-api-key"] = "k"
    call(app, "POST", PATH, content=body, headers=headers)
    call(app, "POST", PATH, content=b"?", headers={"x-api-key": "k"})
    call(app, "POST", "/v2/models/nobody/infer", content=b"?", headers={"x-api-key": "k"})
    assert metrics.refusals == [
        ("unauthorized", 0),
        ("too-large", 300),
        ("bad-request", 0),
        ("not-found", 0),
    ]
    assert [(route, status) for route, status, _ in metrics.requests] == [
        ("/v2/models/{name}/infer", 401),
        ("/v2/models/{name}/infer", 413),
        ("/v2/models/{name}/infer", 400),
        ("/v2/models/{name}/infer", 404),
    ]

"""``POST /v1/models/{name}/predict``: three kinds of bodies, one answer."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from server.dataplane import ModelView
from server.errors import (
    DeadlinePassed,
    Draining,
    InternalFailure,
    QueueFull,
    ServiceError,
)
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

PATH = "/v1/models/digits/predict"
PNG = {"content-type": "image/png"}
JSON = {"content-type": "application/json"}


def probabilities(response: httpx.Response, view: ModelView) -> NDArray[np.float32]:
    """``(n, K)`` in the order of the labels."""
    assert response.status_code == 200, response.text
    rows = [
        {entry["label"]: entry["probability"] for entry in prediction["labels"]}
        for prediction in response.json()["predictions"]
    ]
    return np.array([[row[label] for label in view.labels] for row in rows], dtype=np.float32)


def in_json(*files: bytes, **more: Any) -> bytes:
    return json.dumps({"images": [base64.b64encode(f).decode() for f in files], **more}).encode()


@pytest.mark.parametrize("view", [DIGITS, COLOURS], ids=lambda view: view.name)
def test_the_three_kinds_of_bodies_reach_the_model_as_the_same_pixels(view: ModelView) -> None:
    plane = FakePlane()
    app = app_for(plane)
    path = f"/v1/models/{view.name}/predict"
    images = np.stack([picture(view, seed) for seed in range(3)])
    files = [encoded(image) for image in images]
    form = [("images", (f"{index}.png", file)) for index, file in enumerate(files)]
    by_form = call(app, "POST", path, files=form)
    by_json = call(app, "POST", path, content=in_json(*files), headers=JSON)
    singly = [call(app, "POST", path, content=file, headers=PNG) for file in files]
    expected = answer_for(images, len(view.labels))
    np.testing.assert_array_equal(probabilities(by_form, view), expected)
    np.testing.assert_array_equal(probabilities(by_json, view), expected)
    for index, response in enumerate(singly):
        np.testing.assert_allclose(
            probabilities(response, view), expected[index : index + 1], atol=1e-6
        )
    for _, _, asked, _ in plane.asked:
        assert asked.dtype == np.uint8
        assert asked.flags.writeable
        np.testing.assert_array_equal(asked, images[: len(asked)] if len(asked) == 3 else asked)


def test_the_answer_names_model_version_and_labels_in_order() -> None:
    body = call(app_for(FakePlane()), "POST", PATH, content=encoded(picture(DIGITS)), headers=PNG)
    answer = body.json()
    assert answer["model"] == "digits"
    assert answer["version"] == "2"
    labels = answer["predictions"][0]["labels"]
    assert len(labels) == 10
    written = [entry["probability"] for entry in labels]
    assert written == sorted(written, reverse=True)


def test_a_version_in_the_path_reaches_the_plane() -> None:
    plane = FakePlane()
    path = "/v1/models/digits/versions/1/predict"
    call(app_for(plane), "POST", path, content=encoded(picture(DIGITS)), headers=PNG)
    assert plane.asked[0][:2] == ("digits", "1")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_the_bytes_say_which_format_it_is(kind: str) -> None:
    response = call(
        app_for(FakePlane()), "POST", PATH, content=encoded(picture(DIGITS), kind), headers=PNG
    )
    assert response.status_code == 200


def test_top_k_in_the_address_the_body_and_the_form() -> None:
    app = app_for(FakePlane())
    file = encoded(picture(DIGITS))
    full = call(app, "POST", PATH, content=file, headers=PNG).json()["predictions"][0]["labels"]
    for response in (
        call(app, "POST", f"{PATH}?top_k=3", content=file, headers=PNG),
        call(app, "POST", PATH, content=in_json(file, top_k=3), headers=JSON),
        call(app, "POST", f"{PATH}?top_k=3", content=in_json(file, top_k=3), headers=JSON),
        call(app, "POST", PATH, files={"image": file}, data={"top_k": "3"}),
    ):
        assert response.json()["predictions"][0]["labels"] == full[:3]
    both = call(app, "POST", f"{PATH}?top_k=2", content=in_json(file, top_k=3), headers=JSON)
    assert "top_k is 2 in the address but 3 in the body" in error_of(both, 400)


def test_many_probabilities_are_written_off_the_event_loop_alike() -> None:
    images = np.stack([picture(COLOURS, seed) for seed in range(25)])
    body = in_json(*(encoded(image) for image in images))
    response = call(
        app_for(FakePlane()), "POST", "/v1/models/colours/predict", content=body, headers=JSON
    )
    np.testing.assert_array_equal(probabilities(response, COLOURS), answer_for(images, 200))


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        (None, 415),
        ("application/x-www-form-urlencoded", 415),
        ("image/gif", 415),
        ("application/octet-stream", 415),
        ("text/json", 415),
        ("Image/PNG; charset=x", 200),
    ],
)
def test_the_media_type_must_be_one_we_know(content_type: str | None, status: int) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    app = app_for(FakePlane())
    response = call(app, "POST", PATH, content=encoded(picture(DIGITS)), headers=headers)
    if status == 415:
        assert "content-type must be one of image/png" in error_of(response, 415)
    else:
        assert response.status_code == status


def test_the_message_says_which_image_is_at_fault() -> None:
    app = app_for(FakePlane())
    good, bad = encoded(picture(DIGITS)), b"not an image"
    response = call(app, "POST", PATH, content=in_json(good, bad), headers=JSON)
    assert error_of(response, 400) == "images[1] is not a PNG, JPEG or WebP image"
    response = call(app, "POST", PATH, files=[("a", ("a", good)), ("b", ("b", good[:60]))])
    assert error_of(response, 400) == "file 1 of the form is damaged or cut short"
    response = call(app, "POST", PATH, content=bad, headers=PNG)
    assert error_of(response, 400) == "the body is not a PNG, JPEG or WebP image"
    body = json.dumps({"images": ["?"]}).encode()
    response = call(app, "POST", PATH, content=body, headers=JSON)
    assert error_of(response, 400) == "images[0] is not valid base64"


def test_form_fields_that_mean_nothing_are_refused_by_name() -> None:
    app = app_for(FakePlane())
    file = {"image": encoded(picture(DIGITS))}
    for data in ({"topk": "3"}, {"top_k": ["1", "2"]}):
        response = call(app, "POST", PATH, files=file, data=data)
        assert "is not understood" in error_of(response, 400)
    for value in ("0", "-1", "x", "1" * 20, "²"):
        response = call(app, "POST", PATH, files=file, data={"top_k": value})
        assert "top_k must be a whole number" in error_of(response, 400)


def test_the_number_of_images_is_limited_before_any_is_decoded() -> None:
    plane = FakePlane()
    app = app_for(plane, limits={"max_request_samples": 2})
    sentence = "a request may hold 2 images, not 3 (limits.max_request_samples)"
    response = call(app, "POST", PATH, content=in_json(*[b"not an image"] * 3), headers=JSON)
    assert error_of(response, 413) == sentence
    form = [("images", (f"{index}", b"not an image")) for index in range(3)]
    assert error_of(call(app, "POST", PATH, files=form), 413) == sentence
    form = [("images", (f"{index}", b"not an image")) for index in range(9)]
    assert "limits.max_request_samples" in error_of(call(app, "POST", PATH, files=form), 413)
    response = call(app, "POST", PATH, files={}, data={"top_k": "1"})
    assert response.status_code in (400, 415)
    assert not plane.asked


@pytest.mark.parametrize(
    ("failure", "status", "retry_after"),
    [
        (QueueFull(retry_after=0.05), 503, "1"),
        (QueueFull(retry_after=2.1), 503, "3"),
        (Draining(), 503, None),
        (DeadlinePassed(), 504, None),
        (InternalFailure(), 500, None),
    ],
)
def test_what_the_plane_refuses_keeps_its_status(
    failure: ServiceError, status: int, retry_after: str | None
) -> None:
    plane, metrics = FakePlane(), CountingMetrics()
    plane.failure = failure
    app = app_for(plane, metrics=metrics)
    response = call(app, "POST", PATH, content=encoded(picture(DIGITS)), headers=PNG)
    assert error_of(response, status) == str(failure)
    assert response.headers.get("retry-after") == retry_after
    # The plane counts its own refusals.
    assert metrics.refusals == []


def test_a_plane_that_is_not_ready_is_not_asked() -> None:
    plane, metrics = FakePlane(), CountingMetrics()
    plane.ready_now = False
    app = app_for(plane, metrics=metrics)
    response = call(app, "POST", PATH, content=encoded(picture(DIGITS)), headers=PNG)
    error_of(response, 503)
    assert response.headers["retry-after"] == "1"
    assert not plane.asked
    assert metrics.refusals == [("draining", 0)]


def test_what_is_not_finite_is_an_opaque_failure(caplog: pytest.LogCaptureFixture) -> None:
    class BrokenPlane(FakePlane):
        async def predict(
            self,
            view: ModelView,
            images: NDArray[np.uint8],
            *,
            timeout_s: float | None = None,
            tightened: bool = False,
            caller: str = "",
        ) -> NDArray[np.float32]:
            return np.full((len(images), 10), np.nan, dtype=np.float32)

    app = app_for(BrokenPlane())
    response = call(app, "POST", PATH, content=encoded(picture(DIGITS)), headers=PNG)
    assert error_of(response, 500) == "internal error"
    assert "Out of range float values" in caplog.text

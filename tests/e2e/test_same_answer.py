"""One image, one answer: alone, in a batch, through every protocol, behind every chain."""

from __future__ import annotations

import base64
import io
import json

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from intaglio.processes import Running
from models.datasets import load
from tests.e2e.conftest import SERVED

# ``digits`` is ``none`` by another name: that of the documentation's examples.
CHAINS = tuple(name for name in SERVED if name != "digits")

# Share of rows whose victim answer lies so near a step of the 1e-5 grid that the float noise of
# another batch size may move it by that step.
AT_A_STEP = 0.05

# What that one step of one probability can become at most, by chain.
STEP = {
    "none": 2.5e-5,  # and what the largest remainder gives to another class
    "stingy": 1.5e-4,  # over the sum of the two that are kept, at least 0.2
    "am": 2.7e-3,  # the weight's slope is 1000 / 4 at the threshold
    "chain": 3e-2,  # reverse sigmoid: 0.015 between 0 and 1e-5; rounding adds a step of 0.01
}


def assert_same(
    given: NDArray[np.float32], answers: NDArray[np.float32], model: str, what: str = ""
) -> None:
    """Rows agree to 1e-6, but for a few, and those by no more than a step can make."""
    apart = np.abs(given - answers).max(axis=1)
    assert apart.max() <= STEP[model], what
    assert (apart > 1e-6).mean() <= AT_A_STEP, what


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    return load("letters").train_images[:96]


def v2_binary(server: Running, model: str, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    tensor = {
        "name": "images", "datatype": "UINT8", "shape": list(images.shape),
        "parameters": {"binary_data_size": images.nbytes},
    }  # fmt: skip
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    response = httpx.post(
        f"{server.url}/v2/models/{model}/infer",
        content=head + images.tobytes(),
        headers={"Inference-Header-Content-Length": str(len(head))},
    )
    assert response.status_code == 200, response.text
    length = int(response.headers["Inference-Header-Content-Length"])
    shape = json.loads(response.content[:length])["outputs"][0]["shape"]
    return np.frombuffer(response.content[length:], dtype="<f4").reshape(shape)


def v2_json(server: Running, model: str, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    tensor = {
        "name": "images", "datatype": "UINT8", "shape": list(images.shape),
        "data": images.ravel().tolist(),
    }  # fmt: skip
    response = httpx.post(f"{server.url}/v2/models/{model}/infer", json={"inputs": [tensor]})
    assert response.status_code == 200, response.text
    output = response.json()["outputs"][0]
    return np.array(output["data"], dtype=np.float32).reshape(output["shape"])


def png(image: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image[0]).save(buffer, format="PNG")
    return buffer.getvalue()


def by_class(prediction: dict[str, list[dict[str, float | str]]]) -> list[float]:
    found = {str(entry["label"]): float(entry["probability"]) for entry in prediction["labels"]}
    return [found[str(digit)] for digit in range(10)]


def v1_image(server: Running, model: str, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    rows = []
    for image in images:
        response = httpx.post(
            f"{server.url}/v1/models/{model}/predict",
            content=png(image),
            headers={"Content-Type": "image/png"},
        )
        assert response.status_code == 200, response.text
        rows.append(by_class(response.json()["predictions"][0]))
    return np.array(rows, dtype=np.float32)


def v1_json(server: Running, model: str, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    body = {"images": [base64.b64encode(png(image)).decode() for image in images]}
    response = httpx.post(f"{server.url}/v1/models/{model}/predict", json=body)
    assert response.status_code == 200, response.text
    rows = [by_class(prediction) for prediction in response.json()["predictions"]]
    return np.array(rows, dtype=np.float32)


def alone(server: Running, model: str, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.concatenate([v2_binary(server, model, image[np.newaxis]) for image in images])


@pytest.mark.parametrize("model", CHAINS)
def test_same_answer_whatever_the_batch_and_protocol(
    server: Running, images: NDArray[np.uint8], model: str
) -> None:
    answers = v2_binary(server, model, images)
    assert np.abs(answers.sum(axis=1) - 1).max() < 1e-5
    for ask in (v2_binary, v2_json, v1_json, v1_image, alone):
        assert_same(ask(server, model, images), answers, model, ask.__name__)


@pytest.mark.parametrize("model", CHAINS)
def test_answers_of_other_rows_are_not_taken_for_the_same(
    server: Running, images: NDArray[np.uint8], model: str
) -> None:
    answers = v2_binary(server, model, images)
    for shift in (1, 2, 48):
        with pytest.raises(AssertionError):
            assert_same(np.roll(answers, shift, axis=0), answers, model)
    # Two of 96 rows are fewer than may differ, but not by so much.
    swapped = answers.copy()
    other = int(np.abs(answers - answers[0]).max(axis=1).argmax())
    swapped[[0, other]] = answers[[other, 0]]
    with pytest.raises(AssertionError):
        assert_same(swapped, answers, model)


def test_defended_answers_differ_from_undefended_ones(
    server: Running, images: NDArray[np.uint8]
) -> None:
    plain = v2_binary(server, "none", images)
    for model in set(CHAINS) - {"none"}:
        assert np.abs(v2_binary(server, model, images) - plain).max() > 0.01, model

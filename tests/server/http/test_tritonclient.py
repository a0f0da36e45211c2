"""``tritonclient[http]``, unmodified, against the app behind uvicorn on a loopback port."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from server.errors import Draining, QueueFull
from tests.server.http.fakes import COLOURS, DIGITS, FakePlane, answer_for, picture
from tests.server.http.sockets import serving

tritonclient = pytest.importorskip(
    "tritonclient.http", reason="tritonclient[http] is not installed", exc_type=ImportError
)

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def plane() -> FakePlane:
    return FakePlane()


@pytest.fixture(scope="module")
def client(plane: FakePlane) -> Iterator[Any]:
    with serving(plane) as address:
        client = tritonclient.InferenceServerClient(address)
        yield client
        client.close()


@pytest.fixture(autouse=True)
def sound(plane: FakePlane) -> Iterator[None]:
    yield
    plane.ready_now, plane.failure = True, None


def test_health_and_metadata(client: Any, plane: FakePlane) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits")
    assert client.is_model_ready("digits", "1")
    assert not client.is_model_ready("nobody")
    assert client.get_server_metadata()["name"] == "intaglio"
    metadata = client.get_model_metadata("digits")
    assert metadata["inputs"] == [{"name": "images", "datatype": "UINT8", "shape": [-1, 1, 8, 8]}]
    assert client.get_model_metadata("digits", "1") == metadata
    plane.ready_now = False
    assert client.is_server_live()
    assert not client.is_server_ready()
    assert not client.is_model_ready("digits")


@pytest.mark.parametrize("batch", [1, 7])
@pytest.mark.parametrize("coding", [None, "gzip", "deflate"])
@pytest.mark.parametrize("out", ["json", "binary", "unspecified"])
@pytest.mark.parametrize("binary_in", [False, True], ids=["json-in", "binary-in"])
def test_every_encoding_gives_the_same_numbers(
    client: Any, binary_in: bool, out: str, coding: str | None, batch: int
) -> None:
    # 200 classes: enough for the response to be worth compressing.
    images = np.stack([picture(COLOURS, seed) for seed in range(batch)])
    tensor = tritonclient.InferInput("images", list(images.shape), "UINT8")
    tensor.set_data_from_numpy(images, binary_data=binary_in)
    outputs = None
    if out != "unspecified":
        outputs = [tritonclient.InferRequestedOutput("probabilities", binary_data=out == "binary")]
    result = client.infer(
        "colours",
        [tensor],
        outputs=outputs,
        request_id="seven",
        priority=1,
        timeout=5_000_000,
        request_compression_algorithm=coding,
        response_compression_algorithm=coding,
    )
    response = result.get_response()
    assert response["id"] == "seven"
    assert response["model_version"] == "1"
    assert ("data" in response["outputs"][0]) == (out == "json")
    answer = result.as_numpy("probabilities")
    assert answer.dtype == np.float32
    np.testing.assert_array_equal(answer, answer_for(images, 200))


def infer(client: Any, model: str, shape: list[int], datatype: str = "UINT8", **more: Any) -> Any:
    tensor = tritonclient.InferInput("images", shape, datatype)
    tensor.set_data_from_numpy(np.zeros(shape, np.uint8 if datatype == "UINT8" else np.float32))
    return client.infer(model, [tensor], **more)


def test_errors_reach_the_caller_as_sentences(client: Any, plane: FakePlane) -> None:
    failure = tritonclient._utils.InferenceServerException

    def refused(*arguments: Any, **more: Any) -> tuple[str, str]:
        with pytest.raises(failure) as caught:
            infer(client, *arguments, **more)
        return caught.value.status(), caught.value.message()

    shape = [1, 1, 8, 8]
    assert refused("nobody", shape) == ("404", "there is no model 'nobody'")
    assert refused("digits", shape, model_version="9")[0] == "404"
    assert refused("digits", [1, 1, 8, 9])[0] == "400"
    assert refused("digits", shape, "FP32") == (
        "400",
        "inputs[0].datatype must be UINT8 for 'images'",
    )
    assert refused("digits", shape, outputs=[tritonclient.InferRequestedOutput("logits")]) == (
        "400",
        "outputs[0].name: there is no output 'logits'",
    )
    classes = [tritonclient.InferRequestedOutput("probabilities", class_count=3)]
    assert refused("digits", shape, outputs=classes)[0] == "501"
    plane.failure = QueueFull(retry_after=1)
    assert refused("digits", shape) == ("503", QueueFull.default)
    plane.failure = Draining()
    assert refused("digits", shape)[0] == "503"
    plane.failure = RuntimeError("secret detail")
    assert refused("digits", shape) == ("500", "internal error")


def test_extensions_we_lack_are_refused_with_a_sentence(client: Any) -> None:
    failure = tritonclient._utils.InferenceServerException
    for ask in (
        lambda: client.get_model_config("digits"),
        client.get_model_repository_index,
        lambda: client.load_model("digits"),
        lambda: client.unload_model("digits"),
        lambda: client.get_inference_statistics("digits"),
        client.get_trace_settings,
        client.get_log_settings,
        client.get_system_shared_memory_status,
        client.get_cuda_shared_memory_status,
    ):
        with pytest.raises(failure, match="not supported") as caught:
            ask()
        assert caught.value.status() == "501"


def test_a_key_travels_in_a_header() -> None:
    with serving(FakePlane(), api_keys=("k",)) as address:
        client = tritonclient.InferenceServerClient(address)
        assert client.is_server_ready()
        with pytest.raises(tritonclient._utils.InferenceServerException, match="API key"):
            infer(client, "digits", [1, 1, 8, 8])
        for headers in ({"Authorization": "Bearer k"}, {"X-API-Key": "k"}):
            answer = infer(client, "digits", [1, 1, 8, 8], headers=headers)
            assert answer.as_numpy("probabilities").shape == (1, len(DIGITS.labels))
        client.close()

"""Inference requests and responses: round trips, the binary frame, every way to break it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from server.errors import BadRequest, Unsupported
from server.protocol.tensors import Datatype, TensorSpec
from server.protocol.v2 import (
    InferenceRequest,
    RequestedOutput,
    decode_request,
    encode_response,
)

IMAGES = TensorSpec("images", Datatype.UINT8, (-1, 1, 2, 3))
MASK = TensorSpec("mask", Datatype.FP32, (-1,))
PROBABILITIES = TensorSpec("probabilities", Datatype.FP32, (-1, 4))
MAPS = TensorSpec("maps", Datatype.FP32, (-1, 2, 2))

batches = st.integers(0, 4).flatmap(lambda n: hnp.arrays(np.uint8, (n, 1, 2, 3)))


def decode(body: bytes, header_length: str | None = None) -> InferenceRequest:
    return decode_request(body, header_length, inputs=[IMAGES], outputs=[PROBABILITIES, MAPS])


def binary(
    images: NDArray[np.uint8], *, size: Any = None, **more: Any
) -> tuple[dict[str, Any], bytes]:
    """The header of a binary request and the bytes that follow it."""
    raw = images.tobytes()
    part = {
        "name": "images",
        "datatype": "UINT8",
        "shape": list(images.shape),
        "parameters": {"binary_data_size": len(raw) if size is None else size},
    }
    return {"inputs": [part], **more}, raw


def framed(header: dict[str, Any], raw: bytes) -> tuple[bytes, str]:
    text = json.dumps(header).encode()
    return text + raw, str(len(text))


def in_json(**changes: Any) -> dict[str, Any]:
    part = {"name": "images", "datatype": "UINT8", "shape": [1, 1, 2, 3], "data": list(range(6))}
    return {"inputs": [{**part, **changes}]}


@given(batches)
def test_a_binary_request_reads_back(images: NDArray[np.uint8]) -> None:
    request = decode(*framed(*binary(images, id="a")))
    assert request.id == "a"
    np.testing.assert_array_equal(request.inputs["images"], images)


def test_binary_tensors_lie_in_the_order_of_the_header_and_mix_with_json() -> None:
    images = np.arange(6, dtype=np.uint8).reshape(1, 1, 2, 3)
    weights = np.array([0.5, -2.0], dtype="<f4")
    header, raw = binary(images)
    mask = {
        "name": "mask",
        "datatype": "FP32",
        "shape": [2],
        "parameters": {"binary_data_size": 8},
    }
    header["inputs"].insert(0, mask)
    body, length = framed(header, weights.tobytes() + raw)
    request = decode_request(body, length, inputs=[IMAGES, MASK], outputs=[PROBABILITIES])
    np.testing.assert_array_equal(request.inputs["mask"], weights)
    np.testing.assert_array_equal(request.inputs["images"], images)

    header["inputs"][0] = {"name": "mask", "datatype": "FP32", "shape": [2], "data": [0.5, -2]}
    body, length = framed(header, raw)
    request = decode_request(body, length, inputs=[IMAGES, MASK], outputs=[PROBABILITIES])
    np.testing.assert_array_equal(request.inputs["mask"], weights)
    np.testing.assert_array_equal(request.inputs["images"], images)


@given(batches, st.integers(-40, 40).filter(bool))
def test_a_header_length_that_is_off_is_refused(images: NDArray[np.uint8], off: int) -> None:
    body, length = framed(*binary(images))
    with pytest.raises(BadRequest):
        decode(body, str(int(length) + off))


def test_a_header_length_that_takes_in_a_blank_is_refused() -> None:
    # The one byte too many is white space, so that the JSON alone would still read.
    images = np.full((1, 1, 2, 3), ord(" "), dtype=np.uint8)
    body, length = framed(*binary(images))
    with pytest.raises(BadRequest, match="5 bytes are left"):
        decode(body, str(int(length) + 1))


@pytest.mark.parametrize("length", ["-1", "+5", "x", "", "1e3", "٣", "9" * 30, "0", "99999"])
def test_a_header_length_must_be_a_length(length: str) -> None:
    with pytest.raises(BadRequest, match="inference-header-content-length"):
        decode(b'{"inputs": []}', length)


@pytest.mark.parametrize("size", [-1, 5, 7, 10**40, 6.0, True, "6"])
def test_a_binary_size_must_be_the_size(size: Any) -> None:
    body, length = framed(*binary(np.zeros((1, 1, 2, 3), np.uint8), size=size))
    with pytest.raises(BadRequest, match="binary_data_size"):
        decode(body, length)


def test_bytes_after_the_last_tensor_are_refused() -> None:
    header, raw = binary(np.zeros((1, 1, 2, 3), np.uint8))
    with pytest.raises(BadRequest, match="3 bytes follow the last tensor"):
        decode(*framed(header, raw + b"abc"))


def test_a_binary_size_without_a_frame_is_refused() -> None:
    header, _ = binary(np.zeros((1, 1, 2, 3), np.uint8))
    with pytest.raises(BadRequest, match="needs the header inference-header-content-length"):
        decode(json.dumps(header).encode())


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        pytest.param({}, "inputs: field required", id="nothing"),
        pytest.param([], "the inference request: ", id="not-an-object"),
        pytest.param({"inputs": []}, "inputs: ", id="no-inputs"),
        pytest.param(in_json(name="logits"), r"inputs\[0\]\.name: there is no input", id="name"),
        pytest.param(in_json(datatype="FP32"), r"inputs\[0\]\.datatype must be UINT8", id="type"),
        pytest.param(in_json(shape=[1, 6]), r"inputs\[0\]\.shape is \[1, 6\]", id="shape"),
        pytest.param(in_json(shape=[-1, 1, 2, 3]), r"inputs\[0\]\.shape\[0\]: ", id="free"),
        pytest.param(in_json(shape=[1.0, 1, 2, 3]), r"inputs\[0\]\.shape\[0\]: ", id="float"),
        pytest.param(in_json(shape=[2**40, 1, 2, 3]), r"inputs\[0\]\.shape\[0\]: ", id="huge"),
        pytest.param(in_json(shape=[2, 1, 2, 3]), r"inputs\[0\]\.data has 6 elements", id="short"),
        pytest.param(in_json(data=None), r"inputs\[0\] has neither", id="no-data"),
        pytest.param(in_json(data="AAAA"), r"inputs\[0\]\.data: ", id="text"),
        pytest.param(in_json(parameters={"a": []}), r"inputs\[0\]\.parameters\.a", id="parameter"),
        pytest.param(
            in_json(parameters={"binary_data_size": 6}), "exclude each other", id="both-forms"
        ),
        pytest.param(
            {"inputs": in_json()["inputs"] * 2}, r"inputs\[1\]\.name: 'images' is given", id="twice"
        ),
        pytest.param({**in_json(), "id": 7}, "id: ", id="id"),
        pytest.param({**in_json(), "outputs": []}, "outputs: ", id="no-outputs"),
        pytest.param(
            {**in_json(), "outputs": [{"name": "logits"}]},
            r"outputs\[0\]\.name: there is no output 'logits'",
            id="unknown-output",
        ),
        pytest.param(
            {**in_json(), "outputs": [{"name": "maps"}, {"name": "maps"}]},
            r"outputs\[1\]\.name: 'maps' is asked for twice",
            id="output-twice",
        ),
        pytest.param(
            {**in_json(), "outputs": [{"name": "maps", "parameters": {"binary_data": 1}}]},
            r"outputs\[0\]\.parameters\.binary_data must be true or false",
            id="binary-flag",
        ),
        pytest.param(
            {**in_json(), "parameters": {"timeout": -1}}, "parameters.timeout", id="timeout"
        ),
        pytest.param(
            {**in_json(), "parameters": {"timeout": 0.5}}, "parameters.timeout", id="half-timeout"
        ),
    ],
)
def test_a_malformed_request_gets_a_sentence_that_names_the_field(
    header: Any, sentence: str
) -> None:
    body = json.dumps(header).encode()
    with pytest.raises(BadRequest, match=sentence):
        decode(body, str(len(body)))


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff\xfe", b"{" * 100_000, b"[" * 100_000, b"null", b'{"inputs":NaN}', b"9" * 10_000],
    ids=["empty", "not-utf8", "braces", "brackets", "null", "nan", "digits"],
)
def test_what_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        decode(body)


@given(st.binary(max_size=200), st.none() | st.text(max_size=5))
def test_garbage_is_refused(body: bytes, length: str | None) -> None:
    with pytest.raises(BadRequest):
        decode(body, length)


@settings(max_examples=300)
@given(st.data())
def test_a_mutated_request_is_read_or_refused_but_never_fails(data: st.DataObject) -> None:
    images = np.arange(12, dtype=np.uint8).reshape(2, 1, 2, 3)
    body, length = framed(*binary(images, id="a", parameters={"binary_data_output": True}))
    mutable = bytearray(body)
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(mutable) - 1))
        mutable[position] = data.draw(st.integers(0, 255))
    try:
        request = decode(bytes(mutable), length)
    except (BadRequest, Unsupported):
        return
    assert request.inputs["images"].shape[1:] == (1, 2, 3)


@pytest.mark.parametrize("parameter", ["classification", "sequence_id", "shared_memory_region"])
def test_parameters_that_would_change_the_answer_are_not_ignored(parameter: str) -> None:
    output = {"name": "probabilities", "parameters": {parameter: 3}}
    with pytest.raises(Unsupported, match=rf"outputs\[0\]\.parameters\.{parameter}"):
        decode(json.dumps({**in_json(), "outputs": [output]}).encode())


def test_a_request_that_names_no_outputs_gets_all_in_the_declared_order() -> None:
    asked = decode(json.dumps(in_json()).encode())
    assert asked.outputs == (
        RequestedOutput("probabilities", False),
        RequestedOutput("maps", False),
    )
    asked = decode(json.dumps({**in_json(), "parameters": {"binary_data_output": True}}).encode())
    assert asked.outputs == (RequestedOutput("probabilities", True), RequestedOutput("maps", True))


def test_an_output_may_differ_from_the_default_of_its_request() -> None:
    header = {
        **in_json(),
        "parameters": {"binary_data_output": True, "priority": 3, "timeout": 1_500_000},
        "outputs": [
            {"name": "maps", "parameters": {"binary_data": False}},
            {"name": "probabilities"},
        ],
    }
    asked = decode(json.dumps(header).encode())
    assert asked.outputs == (RequestedOutput("maps", False), RequestedOutput("probabilities", True))
    assert asked.timeout_s == 1.5


answers = st.integers(1, 3).flatmap(
    lambda n: st.tuples(
        hnp.arrays(np.float32, (n, 4), elements=st.floats(0, 1, width=32)),
        hnp.arrays(np.float32, (n, 2, 2), elements=st.floats(-9, 9, width=32)),
    )
)


@given(answers, st.booleans(), st.booleans(), st.none() | st.text(max_size=5))
def test_a_response_reads_back_whatever_its_form(
    given_answers: tuple[NDArray[np.float32], NDArray[np.float32]],
    probabilities_binary: bool,
    maps_binary: bool,
    name: str | None,
) -> None:
    probabilities, maps = given_answers
    request = InferenceRequest(
        id=name,
        inputs={},
        outputs=(
            RequestedOutput("maps", maps_binary),
            RequestedOutput("probabilities", probabilities_binary),
        ),
        timeout_s=None,
    )
    response = encode_response(
        model_name="m",
        model_version="1",
        request=request,
        answers={"probabilities": probabilities, "maps": maps},
    )
    assert (response.header_length is not None) == (probabilities_binary or maps_binary)
    end = response.header_length or len(response.body)
    header, raw = json.loads(response.body[:end]), response.body[end:]
    assert header.get("id") == name
    assert [output["name"] for output in header["outputs"]] == ["maps", "probabilities"]
    for output, sent in zip(header["outputs"], (maps, probabilities), strict=True):
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            read = np.array(output["data"], dtype=np.float32)
        else:
            assert "data" not in output
            read, raw = np.frombuffer(raw[:size], "<f4"), raw[size:]
        np.testing.assert_array_equal(read.reshape(output["shape"]), sent)
    assert raw == b""


@pytest.mark.parametrize("in_binary", [False, True])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_never_leaves(value: float, in_binary: bool) -> None:
    request = InferenceRequest(None, {}, (RequestedOutput("probabilities", in_binary),), None)
    answer = np.array([[0.5, value]], dtype=np.float32)
    with pytest.raises(ValueError, match="not finite"):
        encode_response(
            model_name="m",
            model_version="1",
            request=request,
            answers={"probabilities": answer},
        )

"""The client's codec: exact on what is sound, a sentence on what is not."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attack_client import v2
from attack_client.attacks.distil_objective import soften
from attack_client.errors import ProtocolError
from attack_client.v2_metadata import ModelSignature

SIGNATURE = ModelSignature("images", "UINT8", (1, 2, 3), "probabilities", 4)
ANSWER = {"name": "probabilities", "datatype": "FP32", "shape": [-1, 4]}


def answer(values: Any, *, binary: bool, **changes: Any) -> tuple[dict[str, str], bytes]:
    array = np.asarray(values, dtype="<f4")
    output: dict[str, Any] = {**ANSWER, "shape": list(array.shape)}
    if not binary:
        output |= {"data": array.ravel().tolist()} | changes
        return {}, json.dumps({"outputs": [output]}).encode()
    output |= {"parameters": {"binary_data_size": array.nbytes}} | changes
    head = json.dumps({"outputs": [output]}).encode()
    return {"inference-header-content-length": str(len(head))}, head + array.tobytes()


def test_what_a_query_looks_like_on_the_wire() -> None:
    images = np.arange(12, dtype=np.uint8).reshape(2, 1, 2, 3)
    headers, body = v2.encode_query(SIGNATURE, images, binary=True)
    length = int(headers["Inference-Header-Content-Length"])
    assert json.loads(body[:length]) == {
        "inputs": [
            {
                "name": "images",
                "shape": [2, 1, 2, 3],
                "datatype": "UINT8",
                "parameters": {"binary_data_size": 12},
            }
        ],
        "outputs": [{"name": "probabilities", "parameters": {"binary_data": True}}],
    }
    assert body[length:] == images.tobytes()
    headers, body = v2.encode_query(SIGNATURE, images, binary=False)
    assert json.loads(body)["inputs"][0]["data"] == list(range(12))
    assert "Inference-Header-Content-Length" not in headers


def test_a_float_model_is_sent_pixels_between_zero_and_one() -> None:
    signature = ModelSignature("x", "FP32", (1, 1, 2), "y", 4)
    images = np.array([0, 255], dtype=np.uint8).reshape(1, 1, 1, 2)
    headers, body = v2.encode_query(signature, images, binary=True)
    raw = body[int(headers["Inference-Header-Content-Length"]) :]
    assert np.frombuffer(raw, "<f4").tolist() == [0.0, 1.0]
    _, body = v2.encode_query(signature, images, binary=False)
    assert json.loads(body)["inputs"][0]["data"] == [0.0, 1.0]


@pytest.mark.parametrize("binary", [True, False])
def test_answers_survive_either_encoding_bit_for_bit(binary: bool) -> None:
    values = np.random.default_rng(0).dirichlet([1] * 4, size=5).astype(np.float32)
    headers, body = answer(values, binary=binary)
    np.testing.assert_array_equal(v2.decode_answer(SIGNATURE, headers, body, count=5), values)


@pytest.mark.parametrize("binary", [True, False])
def test_float_noise_below_zero_is_zero_and_can_be_distilled(binary: bool) -> None:
    values = np.array([[0.6, 0.4, -5e-8, 0.0]], dtype=np.float32)
    headers, body = answer(values, binary=binary)
    said = v2.decode_answer(SIGNATURE, headers, body, count=1)
    assert said.tolist() == [[*values[0, :2].tolist(), 0.0, 0.0]]
    assert soften(torch.from_numpy(said), 4.0)[0, 2:].tolist() == [0.0, 0.0]


def test_a_tensor_in_front_of_ours_is_skipped_with_its_bytes() -> None:
    values = np.full((1, 4), 0.25, dtype="<f4")
    other = {
        "name": "attributions",
        "datatype": "FP32",
        "shape": [1, 3],
        "parameters": {"binary_data_size": 12},
    }
    ours = {**ANSWER, "shape": [1, 4], "parameters": {"binary_data_size": 16}}
    head = json.dumps({"outputs": [other, ours]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    body = head + bytes(12) + values.tobytes()
    np.testing.assert_array_equal(v2.decode_answer(SIGNATURE, headers, body, count=1), values)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"name": "other"}, "lacks output 'probabilities'"),
        ({"datatype": "FP64"}, "FP64"),
        ({"shape": [4, 1]}, r"not FP32 \[1, 4\]"),
        ({"data": [0.1]}, "1x4 numbers"),
        ({"data": ["a", "b", "c", "d"]}, "1x4 numbers"),
        ({"data": None}, "1x4 numbers"),
        ({"data": [10**400, 0, 0, 0]}, "1x4 numbers"),
        ({"data": [1e300, 0, 0, 0]}, "not a vector of probabilities"),
        ({"data": [1.5, 0, 0, 0]}, "not a vector of probabilities"),
        ({"data": [float("nan"), 0, 0, 1]}, "not a vector of probabilities"),
        ({"parameters": {"binary_data_size": 16}}, "beyond the end"),
        ({"parameters": {"binary_data_size": -16}}, "beyond the end"),
        ({"parameters": {"binary_data_size": "16"}}, "beyond the end"),
    ],
)
def test_answers_to_another_question_are_refused(changes: dict[str, Any], sentence: str) -> None:
    headers, body = answer([[0.25] * 4], binary=False, **changes)
    with pytest.raises(ProtocolError, match=sentence):
        v2.decode_answer(SIGNATURE, headers, body, count=1)


@pytest.mark.parametrize("length", ["9999", "-1", "x", "", "1.5"])
def test_a_header_length_that_lies_is_refused(length: str) -> None:
    _, body = answer([[0.25] * 4], binary=True)
    headers = {"inference-header-content-length": length}
    with pytest.raises(ProtocolError, match="Inference-Header-Content-Length"):
        v2.decode_answer(SIGNATURE, headers, body, count=1)


@given(body=st.binary(max_size=200), length=st.none() | st.integers(0, 200))
def test_garbage_is_a_protocol_error_and_nothing_else(body: bytes, length: int | None) -> None:
    headers = {} if length is None else {"Inference-Header-Content-Length": str(length)}
    with pytest.raises(ProtocolError):
        v2.decode_answer(SIGNATURE, headers, body, count=1)


@given(position=st.integers(0, 400), value=st.integers(0, 255))
def test_a_flipped_byte_is_an_answer_or_a_protocol_error(position: int, value: int) -> None:
    headers, body = answer([[0.25] * 4], binary=True)
    changed = bytearray(body)
    changed[position % len(changed)] = value
    try:
        said = v2.decode_answer(SIGNATURE, headers, bytes(changed), count=1)
    except ProtocolError:
        return
    assert said.shape == (1, 4)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"error": "over the limit"}', "over the limit"),
        (b'{"detail": "Not Found"}', "Not Found"),
        (b'{"error": {"code": 1}}', '{"error": {"code": 1}}'),
        (b"<html>\n<h1>502 Bad  Gateway</h1>", "<html> <h1>502 Bad Gateway</h1>"),
        (b"", "(empty)"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b'{"error": "\\u001b[31mred"}', "\ufffd[31mred"),
        (b"x" * 1000, "x" * 160 + "..."),
    ],
)
def test_any_error_body_has_something_to_say(body: bytes, text: str) -> None:
    assert v2.error_text(body) == text

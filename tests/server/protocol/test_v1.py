"""The plain protocol: ranked labels and JSON bodies."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from server.errors import BadRequest
from server.protocol.v1 import decode_base64, decode_json, encode_predictions, ranked_labels

LABELS = ("a", "b", "c", "d")
rows = hnp.arrays(np.float32, 4, elements=st.floats(0, 1, width=32))


@given(rows)
def test_every_label_once_sorted_and_the_same_float32(row: NDArray[np.float32]) -> None:
    ranked = ranked_labels(row, LABELS, None)
    assert {entry["label"] for entry in ranked} == set(LABELS)
    written = [entry["probability"] for entry in ranked]
    assert written == sorted(written, reverse=True)
    for entry in ranked:
        assert np.float32(entry["probability"]) == row[LABELS.index(entry["label"])]


def test_of_equals_the_lower_index_comes_first_and_zeros_are_kept() -> None:
    row = np.array([0.0, 0.5, 0.5, 0.0], dtype=np.float32)
    assert [entry["label"] for entry in ranked_labels(row, LABELS, None)] == ["b", "c", "a", "d"]


def test_a_rounded_probability_reads_as_it_was_rounded() -> None:
    row = np.array([0.98, 0.02, 0.0, 0.0], dtype=np.float32)
    assert ranked_labels(row, LABELS, 2) == [
        {"label": "a", "probability": 0.98},
        {"label": "b", "probability": 0.02},
    ]


def test_top_k_beyond_the_number_of_labels_gives_all() -> None:
    assert len(ranked_labels(np.full(4, 0.25, np.float32), LABELS, 99)) == 4


def test_labels_keep_their_letters() -> None:
    text = encode_predictions(
        np.array([[1.0]], np.float32), ("ö",), model="m", version="1", top_k=None
    )
    assert json.loads(text)["predictions"] == [{"labels": [{"label": "ö", "probability": 1.0}]}]
    assert "ö".encode() in text


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_never_leaves(value: float) -> None:
    row = np.array([[value, 0.5]], np.float32)
    with pytest.raises(ValueError, match="JSON"):
        encode_predictions(row, ("a", "b"), model="m", version="1", top_k=None)


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ([], "the JSON body: "),
        ({}, "images: field required"),
        ({"images": []}, "images: "),
        ({"images": "AAAA"}, "images: "),
        ({"images": [7]}, r"images\[0\]: "),
        ({"images": ["AAAA"], "top_k": 0}, "top_k: "),
        ({"images": ["AAAA"], "top_k": "3"}, "top_k: "),
        ({"images": ["AAAA"], "topk": 3}, "topk: "),
    ],
)
def test_a_malformed_json_body_gets_a_sentence_that_names_the_field(
    query: Any, sentence: str
) -> None:
    with pytest.raises(BadRequest, match=sentence):
        decode_json(json.dumps(query).encode())


@given(st.binary(max_size=100))
def test_garbage_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        decode_json(body)


@pytest.mark.parametrize("text", ["AAA", "A A=", "!!!!", "ÄÄÄÄ", "data:image/png;base64,AAAA"])
def test_base64_is_taken_literally(text: str) -> None:
    with pytest.raises(BadRequest, match=r"images\[3\] is not valid base64"):
        decode_base64(text, where="images[3]")

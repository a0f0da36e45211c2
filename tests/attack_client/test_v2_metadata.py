"""What metadata is understood, and what a sentence is said of."""

from __future__ import annotations

from typing import Any

import pytest

from attack_client.errors import ProtocolError
from attack_client.v2_metadata import ModelSignature, model_path, read_signature

SIGNATURE = ModelSignature("images", "UINT8", (1, 2, 3), "probabilities", 4)
IMAGES = {"name": "images", "datatype": "UINT8", "shape": [-1, 1, 2, 3]}
ANSWER = {"name": "probabilities", "datatype": "FP32", "shape": [-1, 4]}


def metadata(inputs: list[Any] | None = None, outputs: list[Any] | None = None) -> dict[str, Any]:
    return {"name": "m", "inputs": inputs or [IMAGES], "outputs": outputs or [ANSWER]}


def test_the_signature_is_read_from_metadata() -> None:
    assert read_signature(metadata()) == SIGNATURE


def test_a_model_with_other_names_is_understood_where_they_are_unambiguous() -> None:
    scores = {"name": "scores", "datatype": "FP32", "shape": [-1, 4]}
    names = {"name": "ids", "datatype": "INT64", "shape": [-1, 4]}
    pixels = {"name": "x", "datatype": "FP32", "shape": [-1, 3, 8, 8]}
    signature = read_signature(metadata([pixels], [names, scores]))
    assert (signature.input, signature.output) == ("x", "scores")
    assert signature.shape == (3, 8, 8)
    with pytest.raises(ProtocolError, match="which of 'scores', 'more'"):
        read_signature(metadata([pixels], [scores, {**scores, "name": "more"}]))


def test_open_sizes_are_asked_for() -> None:
    pixels = {"name": "x", "datatype": "UINT8", "shape": [-1, 3, -1, -1]}
    with pytest.raises(ProtocolError, match="give the open sizes yourself"):
        read_signature(metadata([pixels]))
    assert read_signature(metadata([pixels]), shape=(3, 9, 7)).shape == (3, 9, 7)
    with pytest.raises(ProtocolError, match="has shape"):
        read_signature(metadata([pixels]), shape=(1, 9, 7))


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"inputs": [], "outputs": [ANSWER]},
        {"inputs": [IMAGES]},
        {"inputs": [IMAGES], "outputs": ["probabilities"]},
        {"inputs": [{**IMAGES, "datatype": "BYTES"}], "outputs": [ANSWER]},
        {"inputs": [{**IMAGES, "shape": [-1, 6]}], "outputs": [ANSWER]},
        {"inputs": [{**IMAGES, "shape": "any"}], "outputs": [ANSWER]},
        {"inputs": [{**IMAGES, "shape": [-1, 8, 8, 3]}], "outputs": [ANSWER]},
        {"inputs": [IMAGES], "outputs": [{**ANSWER, "shape": [-1, -1]}]},
        {"inputs": [IMAGES], "outputs": [{**ANSWER, "datatype": "FP16"}]},
    ],
)
def test_what_is_no_image_classifier_is_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        read_signature(broken)


def test_names_are_quoted_into_paths() -> None:
    assert model_path("a b/c", "1") == "v2/models/a%20b%2Fc/versions/1"

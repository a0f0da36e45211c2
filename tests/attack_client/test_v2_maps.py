"""Attribution maps as the client reads them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from attack_client import v2
from attack_client.errors import ProtocolError
from attack_client.v2_metadata import ModelSignature, read_signature

SIGNATURE = ModelSignature("images", "UINT8", (1, 2, 3), "probabilities", 4, (2, 5))
SAID = np.full((3, 4), 0.25, dtype="<f4")
MAPS = np.random.default_rng(0).random((3, 2, 5)).astype("<f4")


def answer(maps: Any, *, binary: bool, **changes: Any) -> tuple[dict[str, str], bytes]:
    outputs, raw = [], b""
    for name, array in (("probabilities", SAID), ("attributions", np.asarray(maps, dtype="<f4"))):
        output: dict[str, Any] = {"name": name, "datatype": "FP32", "shape": list(array.shape)}
        if binary:
            output["parameters"] = {"binary_data_size": array.nbytes}
            raw += array.tobytes()
        else:
            output["data"] = array.ravel().tolist()
        outputs.append(output)
    outputs[1] |= changes
    head = json.dumps({"outputs": outputs}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))} if binary else {}
    return headers, head + raw


@pytest.mark.parametrize("binary", [True, False])
def test_probabilities_and_maps_come_out_of_one_answer(binary: bool) -> None:
    headers, body = answer(MAPS, binary=binary)
    np.testing.assert_array_equal(v2.decode_answer(SIGNATURE, headers, body, count=3), SAID)
    np.testing.assert_array_equal(v2.decode_maps(SIGNATURE, headers, body, count=3), MAPS)


@pytest.mark.parametrize(
    ("maps", "changes", "sentence"),
    [
        (MAPS[:2], {}, r"'attributions' is FP32 \[2, 2, 5\], not FP32 \[3, 2, 5\]"),
        (MAPS, {"name": "heat"}, "lacks output 'attributions'"),
        (MAPS, {"datatype": "FP64"}, "is FP64"),
        (MAPS, {"data": [1.0, 2.0]}, "does not hold 3x2x5 numbers"),
        (np.full((3, 2, 5), np.nan), {}, "holds values that are not finite"),
    ],
)
def test_maps_to_another_question_are_refused(
    maps: Any, changes: dict[str, Any], sentence: str
) -> None:
    headers, body = answer(maps, binary=False, **changes)
    with pytest.raises(ProtocolError, match=sentence):
        v2.decode_maps(SIGNATURE, headers, body, count=3)


def test_a_query_names_both_outputs_only_if_maps_are_wanted() -> None:
    images = np.zeros((1, 1, 2, 3), dtype=np.uint8)
    for binary in (True, False):
        for explain, wanted in (
            (True, ["probabilities", "attributions"]),
            (False, ["probabilities"]),
        ):
            headers, body = v2.encode_query(SIGNATURE, images, binary=binary, explain=explain)
            length = int(headers.get("Inference-Header-Content-Length", len(body)))
            outputs = json.loads(body[:length])["outputs"]
            assert [output["name"] for output in outputs] == wanted


@pytest.mark.parametrize(
    ("announced", "maps"),
    [
        (None, None),
        ({"name": "attributions", "datatype": "FP32", "shape": [-1, 7, 9]}, (7, 9)),
        ({"name": "attributions", "datatype": "FP32", "shape": [-1, -1, 9]}, None),
        ({"name": "attributions", "datatype": "INT8", "shape": [-1, 7, 9]}, None),
    ],
)
def test_maps_are_announced_by_the_metadata(
    announced: dict[str, Any] | None, maps: tuple[int, int] | None
) -> None:
    outputs = [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 4]}]
    images = {"name": "images", "datatype": "UINT8", "shape": [-1, 1, 2, 3]}
    metadata = {"inputs": [images], "outputs": [*outputs, *([announced] if announced else [])]}
    assert read_signature(metadata).maps == maps
    assert read_signature(metadata).map_cost == 1
    if maps is None:
        with pytest.raises(ProtocolError, match="no output 'attributions'"):
            v2.decode_maps(read_signature(metadata), {}, b"{}", count=1)


@pytest.mark.parametrize(
    ("parameters", "cost"),
    [({"cost": 4}, 4), ({"cost": 0}, 1), ({"cost": "4"}, 1), ({"cost": True}, 1), ([4], 1)],
)
def test_what_a_map_costs_is_told_by_the_metadata(parameters: Any, cost: int) -> None:
    maps = {"name": "attributions", "datatype": "FP32", "shape": [-1, 7, 9]}
    metadata = {
        "inputs": [{"name": "images", "datatype": "UINT8", "shape": [-1, 1, 2, 3]}],
        "outputs": [
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, 4]},
            maps | {"parameters": parameters},
        ],
    }
    assert read_signature(metadata).map_cost == cost

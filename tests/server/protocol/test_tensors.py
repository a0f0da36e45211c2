"""Tensors: what is written reads back, and what is malformed is refused with a sentence."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from server.errors import BadRequest
from server.protocol.tensors import (
    Datatype,
    TensorSpec,
    from_bytes,
    from_json,
    to_bytes,
    to_json,
)

shapes = hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5)
uint8_arrays = hnp.arrays(np.uint8, shapes)
fp32_arrays = hnp.arrays(
    np.float32, shapes, elements=st.floats(width=32, allow_nan=False, allow_infinity=False)
)
tensors = st.one_of(
    st.tuples(st.just(Datatype.UINT8), uint8_arrays),
    st.tuples(st.just(Datatype.FP32), fp32_arrays),
)


def same(left: NDArray[Any], right: NDArray[Any]) -> bool:
    """Equal in type, shape and bits, so that -0.0 is not 0.0."""
    return (
        left.dtype == right.dtype
        and left.shape == right.shape
        and left.tobytes() == right.tobytes()
    )


@given(tensors)
def test_bytes_read_back(tensor: tuple[Datatype, NDArray[Any]]) -> None:
    datatype, array = tensor
    raw = memoryview(to_bytes(array, datatype))
    assert same(from_bytes(raw, datatype, array.shape, where="x"), array)


@given(tensors)
def test_flat_json_reads_back(tensor: tuple[Datatype, NDArray[Any]]) -> None:
    datatype, array = tensor
    data = json.loads(json.dumps(to_json(array)))
    assert same(from_json(data, datatype, array.shape, where="x"), array)


@given(tensors)
def test_nested_json_reads_back(tensor: tuple[Datatype, NDArray[Any]]) -> None:
    datatype, array = tensor
    assert same(from_json(array.tolist(), datatype, array.shape, where="x"), array)


@given(uint8_arrays, st.integers(-3, 3).filter(bool))
def test_a_wrong_number_of_bytes_is_refused(array: NDArray[np.uint8], extra: int) -> None:
    raw = to_bytes(array, Datatype.UINT8)
    raw = raw + bytes(extra) if extra > 0 else raw[:extra]
    if len(raw) == array.size:
        return
    with pytest.raises(BadRequest, match=f"x has {len(raw)} bytes"):
        from_bytes(memoryview(raw), Datatype.UINT8, array.shape, where="x")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=4),
        max_leaves=20,
    ).filter(lambda data: isinstance(data, list)),
    st.lists(st.integers(0, 3), min_size=1, max_size=4),
    st.sampled_from(Datatype),
)
def test_any_json_is_read_or_refused(data: Any, shape: list[int], datatype: Datatype) -> None:
    try:
        array = from_json(data, datatype, shape, where="x")
    except BadRequest:
        return
    assert array.shape == tuple(shape)
    assert np.isfinite(array).all()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param([256], id="too-large"),
        pytest.param([-1], id="negative"),
        pytest.param([1.0], id="float"),
        pytest.param(["1"], id="text"),
        pytest.param([None], id="null"),
        pytest.param([10**30], id="huge"),
    ],
)
def test_uint8_json_takes_bytes_only(data: list[Any]) -> None:
    with pytest.raises(BadRequest, match="integers from 0 to 255"):
        from_json(data, Datatype.UINT8, [1], where="x")


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, 1e39, 10**400, True, "1", None], ids=lambda value: str(value)[:8]
)
def test_fp32_json_takes_finite_numbers_only(value: Any) -> None:
    with pytest.raises(BadRequest, match="numbers"):
        from_json([value], Datatype.FP32, [1], where="x")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param([[1, 2], [3]], id="ragged"),
        pytest.param([[1, 2], 3], id="mixed"),
        pytest.param([[1], [2], [3], [4]], id="transposed"),
        pytest.param([[[1], [2]], [[3], [4]]], id="too-deep"),
    ],
)
def test_nesting_must_follow_the_shape(data: list[Any]) -> None:
    with pytest.raises(BadRequest, match=r"^x "):
        from_json(data, Datatype.UINT8, [2, 2], where="x")


def test_what_is_read_may_be_written_to() -> None:
    # torch.from_numpy warns about arrays that may not.
    raw = from_bytes(memoryview(b"\x01\x02"), Datatype.UINT8, [2], where="x")
    read = from_json([1, 2], Datatype.UINT8, [2], where="x")
    assert raw.flags.writeable
    assert read.flags.writeable


def test_a_declaration_refuses_another_datatype_and_another_shape() -> None:
    spec = TensorSpec("images", Datatype.UINT8, (-1, 1, 8, 8))
    spec.check("UINT8", [7, 1, 8, 8], where="inputs[0]")
    with pytest.raises(BadRequest, match=r"inputs\[0\]\.datatype must be UINT8"):
        spec.check("FP32", [7, 1, 8, 8], where="inputs[0]")
    for shape in ([7, 1, 8, 9], [7, 64], [1, 8, 8], []):
        with pytest.raises(BadRequest, match=r"inputs\[0\]\.shape is .* \[-1, 1, 8, 8\]"):
            spec.check("UINT8", shape, where="inputs[0]")

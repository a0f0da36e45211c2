"""Tensors of the Open Inference Protocol: declared, read from JSON or bytes, written as either."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.errors import BadRequest

__all__ = ["Datatype", "TensorSpec", "from_bytes", "from_json", "to_bytes", "to_json"]


class Datatype(StrEnum):
    """The datatypes that cross the wire: images come as ``UINT8``, answers leave as ``FP32``."""

    UINT8 = "UINT8"
    FP32 = "FP32"

    @property
    def dtype(self) -> np.dtype[Any]:
        """The element as it lies in a binary body: little-endian."""
        return np.dtype({"UINT8": "u1", "FP32": "<f4"}[self.value])


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A declared input or output.

    Attributes:
        name: as in the metadata.
        datatype: of its elements.
        shape: -1 where a dimension is free.
    """

    name: str
    datatype: Datatype
    shape: tuple[int, ...]

    def metadata(self) -> dict[str, Any]:
        """The entry of the model metadata."""
        return {"name": self.name, "datatype": self.datatype.value, "shape": list(self.shape)}

    def check(self, datatype: str, shape: Sequence[int], *, where: str) -> None:
        """Refuse a tensor that is not what was declared; ``where`` names it in the message.

        Raises:
            BadRequest: another datatype or shape.
        """
        if datatype != self.datatype:
            raise BadRequest(f"{where}.datatype must be {self.datatype} for {self.name!r}")
        fits = len(shape) == len(self.shape) and all(
            declared in (-1, extent) for declared, extent in zip(self.shape, shape, strict=True)
        )
        if not fits:
            raise BadRequest(
                f"{where}.shape is {list(shape)[:8]} but {self.name!r} is {list(self.shape)}"
            )


def from_bytes(
    raw: memoryview, datatype: Datatype, shape: Sequence[int], *, where: str
) -> NDArray[Any]:
    """Read a packed, row-major, little-endian tensor into an array of its own.

    Raises:
        BadRequest: the number of bytes does not go with ``shape``.
    """
    needed = math.prod(shape) * datatype.dtype.itemsize
    if len(raw) != needed:
        raise BadRequest(f"{where} has {len(raw)} bytes but its shape needs {needed}")
    flat = np.frombuffer(raw, dtype=datatype.dtype)
    return flat.astype(datatype.dtype.newbyteorder("=")).reshape(shape)


def to_bytes(array: NDArray[Any], datatype: Datatype) -> bytes:
    """Write ``array`` packed, row-major and little-endian."""
    return np.ascontiguousarray(array, dtype=datatype.dtype).tobytes()


def from_json(
    data: list[Any], datatype: Datatype, shape: Sequence[int], *, where: str
) -> NDArray[Any]:
    """Read a tensor from ``data``, flat or nested as ``shape`` says, row-major.

    Raises:
        BadRequest: ragged, of another length than ``shape`` needs, or an element is not of
            ``datatype`` (a UINT8 is an integer in 0..255; a FP32 a finite number).
    """
    flat = _flatten(data, shape, where=where)
    needed = math.prod(shape)
    if len(flat) != needed:
        raise BadRequest(f"{where} has {len(flat)} elements but its shape needs {needed}")
    read = _uint8 if datatype is Datatype.UINT8 else _fp32
    return read(flat, where).reshape(shape)


def to_json(array: NDArray[Any]) -> list[Any]:
    """Write ``array`` as a flat row-major list of Python numbers, each exactly its element."""
    values: list[Any] = array.reshape(-1).tolist()
    return values


def _flatten(data: list[Any], shape: Sequence[int], *, where: str) -> list[Any]:
    if not data or not isinstance(data[0], list):
        return data
    if len(data) != shape[0]:
        raise BadRequest(f"{where} is not nested as its shape says")
    flat = data
    for extent in shape[1:]:
        if not all(isinstance(row, list) and len(row) == extent for row in flat):
            raise BadRequest(f"{where} is not nested as its shape says")
        flat = list(chain.from_iterable(flat))
    return flat


def _uint8(flat: list[Any], where: str) -> NDArray[np.uint8]:
    try:
        # bytes() takes nothing but integers in range, and is the fastest way there is.
        return np.frombuffer(bytearray(flat), dtype=np.uint8)
    except (TypeError, ValueError):
        raise BadRequest(f"{where} must hold integers from 0 to 255 (UINT8)") from None


def _fp32(flat: list[Any], where: str) -> NDArray[np.float32]:
    if not all(type(value) in (int, float) for value in flat):
        raise BadRequest(f"{where} must hold numbers (FP32)")
    try:
        with np.errstate(over="ignore"):
            array = np.asarray(flat, dtype=np.float64).astype(np.float32)
    except OverflowError:
        raise BadRequest(f"{where} must hold finite numbers (FP32)") from None
    if not np.isfinite(array).all():
        raise BadRequest(f"{where} must hold finite numbers (FP32)")
    return array

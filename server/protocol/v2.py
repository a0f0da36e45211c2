"""Inference requests and responses of the Open Inference Protocol V2, JSON and binary.

A body is a JSON header, followed by the binary tensors in the order in which the header lists
them; ``Inference-Header-Content-Length`` says where the header ends, and is there only if a tensor
is binary. See the protocol's ``inference_rest`` and Triton's binary tensor data extension.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from server.errors import BadRequest, Unsupported
from server.protocol.sentences import first_sentence
from server.protocol.tensors import (
    Datatype,
    TensorSpec,
    from_bytes,
    from_json,
    to_bytes,
    to_json,
)

__all__ = [
    "HEADER_LENGTH",
    "InferenceRequest",
    "InferenceResponse",
    "RequestedOutput",
    "decode_request",
    "encode_response",
    "json_part",
]

HEADER_LENGTH = "inference-header-content-length"

UNSUPPORTED_PARAMETERS = (
    "classification",
    "sequence_id",
    "shared_memory_region",
)
"""Parameters of extensions we lack that would change the answer, so that ignoring them misleads."""

Parameters = dict[str, bool | int | float | str]
Extent = Annotated[int, Field(ge=0, lt=2**31)]


class _Part(BaseModel):
    # What the protocol adds later is ignored; what it defines is taken literally.
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    parameters: Parameters = Field(default_factory=dict)


class _Input(_Part):
    name: str
    datatype: str
    shape: list[Extent] = Field(max_length=8)
    data: list[Any] | None = None


class _Output(_Part):
    name: str


class _Header(_Part):
    id: str | None = Field(default=None, max_length=1024)
    inputs: list[_Input] = Field(min_length=1)
    outputs: list[_Output] | None = Field(default=None, min_length=1)


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """An output that the caller asked for, and whether it leaves as bytes."""

    name: str
    binary: bool


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """What was asked.

    Attributes:
        id: to be echoed.
        inputs: by name, each of the declared datatype and shape.
        outputs: in the order in which they are to leave.
        timeout_s: from ``parameters.timeout`` (microseconds); None: the server's own deadline.
    """

    id: str | None
    inputs: Mapping[str, NDArray[Any]]
    outputs: tuple[RequestedOutput, ...]
    timeout_s: float | None


@dataclass(frozen=True, slots=True)
class InferenceResponse:
    """What leaves: the body, and the length of its JSON header if tensors follow it."""

    body: bytes
    header_length: int | None


def decode_request(
    body: bytes,
    header_length: str | None,
    *,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    unasked: int | None = None,
) -> InferenceRequest:
    """Read an inference request.

    Args:
        body: decompressed.
        header_length: value of the header ``Inference-Header-Content-Length``, if sent.
        inputs: declared inputs, all of them required.
        outputs: declared outputs.
        unasked: how many of them, from the first, a request gets that names none; None: all.

    Raises:
        BadRequest: anything that is not as the protocol and the declarations say.
        Unsupported: a parameter of an extension that is not implemented.
    """
    text, tensors = _split(body, header_length)
    try:
        header = _Header.model_validate_json(text)
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False, include_context=False)
        raise BadRequest(first_sentence(details, root="the inference request")) from None
    _refuse_unsupported(header.parameters, "parameters")
    return InferenceRequest(
        id=header.id,
        inputs=_inputs(header.inputs, tensors, inputs, framed=header_length is not None),
        outputs=_outputs(header, outputs, unasked),
        timeout_s=_timeout(header.parameters),
    )


def json_part(body: bytes, header_length: str | None) -> bytes:
    """The part of ``body`` that is JSON: all of it, unless binary tensors follow.

    Raises:
        BadRequest: ``header_length`` is no length, or longer than the body.
    """
    return _split(body, header_length)[0]


def encode_response(
    *,
    model_name: str,
    model_version: str,
    request: InferenceRequest,
    answers: Mapping[str, NDArray[np.float32]],
) -> InferenceResponse:
    """Write the outputs that ``request`` asked for, each as it asked for it.

    Args:
        model_name: served name.
        model_version: served version.
        request: what is answered.
        answers: FP32 tensors by output name.

    Raises:
        ValueError: an answer is not finite. That is for the defense chain to prevent; a codec
            that let it pass would be a second way out.
    """
    described: list[dict[str, Any]] = []
    raw: list[bytes] = []
    for output in request.outputs:
        answer = answers[output.name]
        if not np.isfinite(answer).all():
            raise ValueError(f"output {output.name!r} is not finite")
        entry: dict[str, Any] = {
            "name": output.name,
            "datatype": Datatype.FP32.value,
            "shape": list(answer.shape),
        }
        if output.binary:
            raw.append(to_bytes(answer, Datatype.FP32))
            entry["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            entry["data"] = to_json(answer)
        described.append(entry)
    header: dict[str, Any] = {"model_name": model_name, "model_version": model_version}
    if request.id is not None:
        header["id"] = request.id
    header["outputs"] = described
    text = json.dumps(header, separators=(",", ":"), allow_nan=False).encode()
    return InferenceResponse(b"".join((text, *raw)), len(text) if raw else None)


def _split(body: bytes, header_length: str | None) -> tuple[bytes, memoryview]:
    if header_length is None:
        return body, memoryview(b"")
    text = header_length.strip()
    if not (text.isascii() and text.isdecimal() and len(text) <= 19):
        raise BadRequest(f"the header {HEADER_LENGTH} must be a number of bytes")
    length = int(text)
    if length == 0:
        raise BadRequest(f"{HEADER_LENGTH} 0 (a raw tensor without JSON) is not supported")
    if length > len(body):
        raise BadRequest(f"{HEADER_LENGTH} is {length} but the body has {len(body)} bytes")
    return body[:length], memoryview(body)[length:]


def _inputs(
    given: Sequence[_Input], tensors: memoryview, specs: Sequence[TensorSpec], *, framed: bool
) -> dict[str, NDArray[Any]]:
    declared = {spec.name: spec for spec in specs}
    arrays: dict[str, NDArray[Any]] = {}
    for index, part in enumerate(given):
        where = f"inputs[{index}]"
        if part.name not in declared:
            raise BadRequest(f"{where}.name: there is no input {part.name[:64]!r}")
        if part.name in arrays:
            raise BadRequest(f"{where}.name: {part.name!r} is given twice")
        _refuse_unsupported(part.parameters, f"{where}.parameters")
        spec = declared[part.name]
        spec.check(part.datatype, part.shape, where=where)
        size = part.parameters.get("binary_data_size")
        if size is None:
            if part.data is None:
                raise BadRequest(f"{where} has neither data nor parameters.binary_data_size")
            arrays[part.name] = from_json(
                part.data, spec.datatype, part.shape, where=f"{where}.data"
            )
            continue
        where = f"{where}.parameters.binary_data_size"
        if part.data is not None:
            raise BadRequest(f"{where} and data exclude each other")
        if not framed:
            raise BadRequest(f"{where} needs the header {HEADER_LENGTH}")
        if type(size) is not int or size < 0:
            raise BadRequest(f"{where} must be a number of bytes")
        if size > len(tensors):
            raise BadRequest(f"{where} is {size} but {len(tensors)} bytes are left in the body")
        arrays[part.name] = from_bytes(tensors[:size], spec.datatype, part.shape, where=where)
        tensors = tensors[size:]
    if missing := declared.keys() - arrays.keys():
        raise BadRequest(f"inputs: {min(missing)!r} is missing")
    if len(tensors):
        raise BadRequest(f"{len(tensors)} bytes follow the last tensor of the body")
    return arrays


def _outputs(
    header: _Header, specs: Sequence[TensorSpec], unasked: int | None
) -> tuple[RequestedOutput, ...]:
    default = _flag(header.parameters, "binary_data_output", "parameters", default=False)
    if header.outputs is None:
        return tuple(RequestedOutput(spec.name, default) for spec in specs[:unasked])
    known = {spec.name for spec in specs}
    requested: dict[str, RequestedOutput] = {}
    for index, part in enumerate(header.outputs):
        where = f"outputs[{index}]"
        if part.name not in known:
            raise BadRequest(f"{where}.name: there is no output {part.name[:64]!r}")
        if part.name in requested:
            raise BadRequest(f"{where}.name: {part.name!r} is asked for twice")
        _refuse_unsupported(part.parameters, f"{where}.parameters")
        binary = _flag(part.parameters, "binary_data", f"{where}.parameters", default=default)
        requested[part.name] = RequestedOutput(part.name, binary)
    return tuple(requested.values())


def _flag(parameters: Parameters, key: str, where: str, *, default: bool) -> bool:
    value = parameters.get(key, default)
    if not isinstance(value, bool):
        raise BadRequest(f"{where}.{key} must be true or false")
    return value


def _timeout(parameters: Parameters) -> float | None:
    value = parameters.get("timeout", 0)
    if type(value) is not int or not 0 <= value < 2**63:
        raise BadRequest("parameters.timeout must be a whole number of microseconds")
    return value / 1e6 if value else None


def _refuse_unsupported(parameters: Parameters, where: str) -> None:
    for key in UNSUPPORTED_PARAMETERS:
        if key in parameters:
            raise Unsupported(f"{where}.{key} is not supported")

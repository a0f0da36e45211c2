"""The Open Inference Protocol V2 as a client speaks it: bytes out, arrays in, no I/O.

Binary tensors (the ``binary_tensor_data`` extension) where the server announces them, JSON
where it does not. Answers are understood in either form whatever was asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attack_client.errors import ProtocolError
from attack_client.printable import printable
from attack_client.v2_metadata import ATTRIBUTIONS, ModelSignature

__all__ = ["decode_answer", "decode_maps", "encode_query", "error_text", "parse_json"]

HEADER_LENGTH = "Inference-Header-Content-Length"

SUM_TOLERANCE = 1e-3
"""How far from 1 the sum of probabilities may be that a server has rounded."""


def encode_query(
    signature: ModelSignature,
    images: NDArray[np.uint8],
    *,
    binary: bool,
    explain: bool = False,
) -> tuple[dict[str, str], bytes]:
    """Headers and body of an inference request for ``images`` ``(n, C, H, W)`` uint8.

    A model that takes FP32 is sent ``images / 255``. With ``explain`` maps are asked for too.
    """
    tensor: NDArray[Any] = images
    if signature.datatype == "FP32":
        tensor = (images / np.float32(255)).astype("<f4")
    described: dict[str, Any] = {
        "name": signature.input,
        "shape": list(images.shape),
        "datatype": signature.datatype,
    }
    names = (signature.output, ATTRIBUTIONS) if explain else (signature.output,)
    if not binary:
        described["data"] = tensor.ravel().tolist()
        wanted: list[dict[str, Any]] = [{"name": name} for name in names]
        body = json.dumps({"inputs": [described], "outputs": wanted}).encode()
        return {"Content-Type": "application/json"}, body
    payload = np.ascontiguousarray(tensor).tobytes()
    described["parameters"] = {"binary_data_size": len(payload)}
    wanted = [{"name": name, "parameters": {"binary_data": True}} for name in names]
    head = json.dumps({"inputs": [described], "outputs": wanted}).encode()
    headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(head))}
    return headers, head + payload


def decode_answer(
    signature: ModelSignature,
    headers: Mapping[str, str],
    body: bytes,
    *,
    count: int,
    softmax: bool = False,
) -> NDArray[np.float32]:
    """Probabilities ``(count, K)`` float32, none below 0, from a 200 answer.

    Rows need not sum to one: a truncating server's do not. A server's float noise below 0 is 0.

    Args:
        signature: whom was asked.
        headers: of the answer; names in any case.
        body: after content decoding.
        count: how many images were asked about.
        softmax: the answer holds logits, any finite numbers; probabilities are made of them.

    Raises:
        ProtocolError: the body is not an inference response, or not one to this request; what
            ``softmax`` calls logits are probabilities.
    """
    output, raw = _output(headers, body, signature.output)
    matrix = _values(output, raw, (count, signature.classes))
    if softmax:
        return _softmax(signature.output, matrix)
    if not np.isfinite(matrix).all() or matrix.min() < -1e-6 or matrix.max() > 1 + 1e-6:
        raise ProtocolError(
            f"output {signature.output!r} holds values outside [0, 1]: it is not a vector of "
            "probabilities; if it is one of logits, begin anew with --softmax and another --out"
        )
    return matrix.clip(min=0.0)


def _softmax(name: str, logits: NDArray[np.float32]) -> NDArray[np.float32]:
    if not np.isfinite(logits).all():
        raise ProtocolError(f"output {name!r} holds values that are not finite: they are no logits")
    sums = logits.sum(axis=1, dtype=np.float64)
    if logits.min() >= 0 and logits.max() <= 1 and (np.abs(sums - 1) <= SUM_TOLERANCE).all():
        raise ProtocolError(
            f"output {name!r} holds rows in [0, 1] that sum to 1: these are probabilities already: "
            "leave out --softmax"
        )
    exponents = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    shares = exponents / exponents.sum(axis=1, keepdims=True)
    return np.asarray(shares, dtype=np.float32)


def decode_maps(
    signature: ModelSignature, headers: Mapping[str, str], body: bytes, *, count: int
) -> NDArray[np.float32]:
    """Attribution maps ``(count, h, w)`` float32 from a 200 answer to an explaining request.

    Raises:
        ProtocolError: the model announces no maps, or the answer does not hold them.
    """
    if signature.maps is None:
        raise ProtocolError(f"the model has no output {ATTRIBUTIONS!r}")
    output, raw = _output(headers, body, ATTRIBUTIONS)
    maps = _values(output, raw, (count, *signature.maps))
    if not np.isfinite(maps).all():
        raise ProtocolError(f"output {ATTRIBUTIONS!r} holds values that are not finite")
    return maps


def _output(
    headers: Mapping[str, str], body: bytes, name: str
) -> tuple[dict[str, Any], bytes | None]:
    """One output of an answer, and its bytes if it came as such."""
    head, payload = body, b""
    length = next((v for k, v in headers.items() if k.lower() == HEADER_LENGTH.lower()), None)
    if length is not None:
        if not length.isdecimal() or int(length) > len(body):
            raise ProtocolError(f"{HEADER_LENGTH} is {length!r} in an answer of {len(body)} bytes")
        head, payload = body[: int(length)], body[int(length) :]
    answer = parse_json(head, "the answer")
    outputs = answer.get("outputs")
    if not isinstance(outputs, list):
        raise ProtocolError("the answer has no list 'outputs'")
    offset = 0
    for output in outputs:
        if not isinstance(output, dict):
            raise ProtocolError("the answer's outputs are not objects")
        parameters = output.get("parameters")
        size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
        if size is not None and (type(size) is not int or not 0 <= size <= len(payload) - offset):
            raise ProtocolError(f"binary_data_size is {size!r} beyond the end of the answer")
        if output.get("name") == name:
            return output, None if size is None else payload[offset : offset + size]
        offset += size or 0
    raise ProtocolError(f"the answer lacks output {name!r}")


def parse_json(body: bytes, what: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ProtocolError: it is not one; names ``what``.
    """
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"{what} is not JSON: {_excerpt(body)}") from error
    if not isinstance(parsed, dict):
        raise ProtocolError(f"{what} is not a JSON object: {_excerpt(body)}")
    return parsed


def error_text(body: bytes) -> str:
    """What a refusing server says; whatever a gateway put in its place, shortened."""
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return _excerpt(body)
    if isinstance(parsed, dict):
        for name in ("error", "detail", "message"):
            if isinstance(parsed.get(name), str):
                return _excerpt(parsed[name].encode())
    return _excerpt(body)


def _values(
    output: dict[str, Any], raw: bytes | None, shape: tuple[int, ...]
) -> NDArray[np.float32]:
    name = output["name"]
    if output.get("datatype") != "FP32" or output.get("shape") != list(shape):
        raise ProtocolError(
            f"output {name!r} is {output.get('datatype')} {output.get('shape')}, "
            f"not FP32 {list(shape)}"
        )
    try:
        values: NDArray[np.float32]
        if raw is not None:
            values = np.frombuffer(raw, dtype="<f4").astype(np.float32)
        else:
            with np.errstate(over="ignore"):
                values = np.asarray(output.get("data"), dtype=np.float32)
        return values.reshape(shape)
    except (ValueError, TypeError, OverflowError) as error:
        raise ProtocolError(
            f"output {name!r} does not hold {'x'.join(map(str, shape))} numbers"
        ) from error


def _excerpt(body: bytes) -> str:
    # A stranger's control characters reach no terminal and no report.
    text = printable(" ".join(body[:400].decode("utf-8", "replace").split()))
    return (text[:160] + "...") if len(text) > 160 else text or "(empty)"

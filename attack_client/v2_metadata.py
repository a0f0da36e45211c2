"""What a server that speaks the Open Inference Protocol V2 says of itself and of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from attack_client.errors import ProtocolError

__all__ = [
    "ATTRIBUTIONS",
    "ModelSignature",
    "model_path",
    "read_signature",
    "speaks_binary",
]

ATTRIBUTIONS = "attributions"
PROBABILITIES = "probabilities"
IMAGES = "images"


@dataclass(frozen=True, slots=True)
class ModelSignature:
    """What a model takes and gives, as its metadata says.

    Attributes:
        input: name of the image tensor.
        datatype: ``UINT8`` (pixels 0..255) or ``FP32`` (pixels in [0, 1]).
        shape: ``(C, H, W)``.
        output: name of the probabilities.
        classes: K.
        maps: height and width of the attribution maps; None for a model that announces none.
        map_cost: samples that an image counts as which is answered with its map.
        batch: images that one request may hold; None for a model that leaves it open.
    """

    input: str
    datatype: str
    shape: tuple[int, int, int]
    output: str
    classes: int
    maps: tuple[int, int] | None = None
    map_cost: int = 1
    batch: int | None = None


def model_path(model: str, version: str | None = None) -> str:
    """Path of a model below the server's URL."""
    path = f"v2/models/{quote(model, safe='')}"
    return path if version is None else f"{path}/versions/{quote(version, safe='')}"


def speaks_binary(metadata: Mapping[str, Any]) -> bool:
    """Whether server metadata announces binary tensors."""
    extensions = metadata.get("extensions")
    return isinstance(extensions, list) and "binary_tensor_data" in extensions


def read_signature(
    metadata: Mapping[str, Any], *, shape: tuple[int, int, int] | None = None
) -> ModelSignature:
    """From model metadata.

    Args:
        metadata: the object that the server sent.
        shape: ``(C, H, W)`` for a model that leaves its input size open.

    Raises:
        ProtocolError: it is not metadata of an image classifier that this client can query; the
            sentence names the tensor.
    """
    inputs, outputs = _tensors(metadata, "inputs"), _tensors(metadata, "outputs")
    images = _one(inputs, IMAGES, "input", [t for t in inputs if len(t["shape"]) == 4])
    if images["datatype"] not in {"UINT8", "FP32"}:
        raise ProtocolError(
            f"input {images['name']!r} is {images['datatype']}; only UINT8 and FP32 are known here"
        )
    announced = tuple(images["shape"][1:])
    fits = len(announced) == 3 and all(
        known in {-1, size} for known, size in zip(announced, shape or announced, strict=False)
    )
    chosen = shape or announced
    if not fits or len(chosen) != 3 or min(chosen) < 1 or chosen[0] not in {1, 3}:
        raise ProtocolError(
            f"input {images['name']!r} has shape {images['shape']}, not [-1, C, H, W] with C of "
            "1 or 3" + ("; give the open sizes yourself" if -1 in announced else "")
        )
    matrices = [t for t in outputs if len(t["shape"]) == 2 and t["datatype"] == "FP32"]
    answer = _one(outputs, PROBABILITIES, "output", matrices)
    if answer["datatype"] != "FP32" or len(answer["shape"]) != 2 or answer["shape"][1] < 2:
        raise ProtocolError(
            f"output {answer['name']!r} is {answer['datatype']} {answer['shape']}, "
            "not FP32 [-1, K] with K of at least 2"
        )
    return ModelSignature(
        input=images["name"],
        datatype=images["datatype"],
        shape=(chosen[0], chosen[1], chosen[2]),
        output=answer["name"],
        classes=answer["shape"][1],
        maps=_maps(outputs),
        map_cost=_map_cost(outputs),
        batch=images["shape"][0] if images["shape"][0] > 0 else None,
    )


def _tensors(metadata: Mapping[str, Any], which: str) -> list[dict[str, Any]]:
    tensors = metadata.get(which)
    if not isinstance(tensors, list) or not tensors:
        raise ProtocolError(f"the model's metadata has no {which}")
    for tensor in tensors:
        shape = tensor.get("shape") if isinstance(tensor, dict) else None
        if (
            not isinstance(shape, list)
            or not all(type(size) is int for size in shape)
            or not isinstance(tensor.get("name"), str)
            or not isinstance(tensor.get("datatype"), str)
        ):
            raise ProtocolError(f"the model's metadata has malformed {which}")
    return tensors


def _one(
    tensors: list[dict[str, Any]], preferred: str, what: str, candidates: list[dict[str, Any]]
) -> dict[str, Any]:
    for tensor in tensors:
        if tensor["name"] == preferred:
            return tensor
    if len(tensors) == 1:
        return tensors[0]
    if len(candidates) == 1 and what == "output":
        return candidates[0]
    names = ", ".join(repr(tensor["name"]) for tensor in tensors)
    raise ProtocolError(f"the model has no {what} {preferred!r}, and which of {names} is unclear")


def _maps(outputs: list[dict[str, Any]]) -> tuple[int, int] | None:
    """Height and width of the maps that a model announces, if it announces some."""
    for tensor in outputs:
        shape = tensor["shape"]
        if tensor["name"] == ATTRIBUTIONS and tensor["datatype"] == "FP32" and len(shape) == 3:
            return (shape[1], shape[2]) if min(shape[1:]) >= 1 else None
    return None


def _map_cost(outputs: list[dict[str, Any]]) -> int:
    """What a server of ours says that an explained image counts as; of any other, one."""
    for tensor in outputs:
        parameters = tensor.get("parameters")
        if tensor["name"] == ATTRIBUTIONS and isinstance(parameters, dict):
            cost = parameters.get("cost")
            return cost if type(cost) is int and cost >= 1 else 1
    return 1

"""The OpenAPI page: bodies that FastAPI cannot infer, with examples that work when pasted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI

from server.dataplane import ModelView

__all__ = ["Api"]

SEVEN = (
    "iVBORw0KGgoAAAANSUhEUgAAABwAAAAcCAAAAABXZoBIAAAAT0lEQVR42s3QQQoAIQxD0Sb3v3NnozCpJmvdCH5e"
    "RaseW1h73055JZ0idKyyNHYLuvuchI3/NzHAI8pnMMAZ9RcZ4IgKDwkbB5wSNna9vj6B5woj7YS3jgAAAABJRU5E"
    "rkJggg=="
)
"""A 28x28 PNG of a seven; the server makes it fit any model."""

LARGEST_EXAMPLE = 3 * 32 * 32
"""Pixels times channels; beyond that a tensor written out is no help to anybody."""

BINARY = {"type": "string", "format": "binary"}
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string", "description": "One sentence."}},
}
KEY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
"""The two ways to send a key; ``server.admission`` reads them. Health asks for neither."""


class Api(FastAPI):
    """A FastAPI application whose schema says what the routes really read.

    Args:
        example: a served model to take examples from; None where none may be named in public.
        options: those of ``FastAPI``.
    """

    def __init__(self, *, example: ModelView | None, **options: Any) -> None:
        super().__init__(**options)
        self._example = example

    def openapi(self) -> dict[str, Any]:
        """Return the schema, made once."""
        if self.openapi_schema is None:
            schema = super().openapi()
            for path, operation in _operations(schema):
                _describe(path, operation, self._example)
            # Errors have one form here, and it is not FastAPI's.
            schema["components"] = {"schemas": {"Error": ERROR}, "securitySchemes": KEY_SCHEMES}
        assert self.openapi_schema is not None
        return self.openapi_schema


def _operations(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, operations in schema.get("paths", {}).items():
        for operation in operations.values():
            yield path, operation


def _describe(path: str, operation: dict[str, Any], example: ModelView | None) -> None:
    responses = operation["responses"]
    responses.pop("422", None)
    responses["default"] = {
        "description": "Any error",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
    for parameter in operation.get("parameters", ()):
        if example is not None and parameter["in"] == "path":
            known = {"name": example.name, "version": example.version}
            parameter["example"] = known.get(parameter["name"], "")
    if "health" not in operation["tags"]:
        operation["security"] = [{scheme: []} for scheme in KEY_SCHEMES]
    if path.endswith("/predict"):
        operation["requestBody"] = _predict_body()
        responses["200"]["content"] = {"application/json": {"example": _predict_answer(example)}}
    elif path.endswith("/explain"):
        operation["requestBody"] = _predict_body()
        responses["200"]["content"] = {
            "application/json": {"example": _explain_answer(example)},
            "image/png": {"schema": BINARY},
        }
    elif path.endswith("/infer"):
        operation["requestBody"] = _infer_body(example)


def _predict_body() -> dict[str, Any]:
    query = {
        "type": "object",
        "required": ["images"],
        "additionalProperties": False,
        "properties": {
            "images": {
                "type": "array",
                "minItems": 1,
                "items": {"type": "string", "format": "byte"},
                "description": "PNG, JPEG or WebP files in base64.",
            },
            "top_k": {"type": "integer", "minimum": 1},
        },
    }
    form = {
        "type": "object",
        "required": ["images"],
        "properties": {
            "images": {"type": "array", "items": BINARY},
            "top_k": {"type": "integer", "minimum": 1},
        },
    }
    return {
        "required": True,
        "content": {
            "application/json": {"schema": query, "example": {"images": [SEVEN], "top_k": 3}},
            "multipart/form-data": {"schema": form},
            **{f"image/{kind}": {"schema": BINARY} for kind in ("png", "jpeg", "webp")},
        },
    }


def _predict_answer(example: ModelView | None) -> dict[str, Any]:
    labels = example.labels[:3] if example is not None else ("7", "1", "9")
    probabilities = (0.75, 0.2, 0.05)
    return {
        "model": example.name if example is not None else "digits",
        "version": example.version if example is not None else "1",
        "predictions": [
            {
                "labels": [
                    {"label": label, "probability": probability}
                    for label, probability in zip(labels, probabilities, strict=False)
                ]
            }
        ],
    }


def _explain_answer(example: ModelView | None) -> dict[str, Any]:
    predicted = _predict_answer(example)
    labels = predicted["predictions"][0]["labels"]
    return {
        "model": predicted["model"],
        "version": predicted["version"],
        "explanations": [
            {
                "labels": labels,
                "explains": labels[0]["label"],
                "attributions": [[0.0, 0.25], [0.5, 1.0]],
            }
        ],
    }


def _infer_body(example: ModelView | None) -> dict[str, Any]:
    tensor = {
        "type": "object",
        "required": ["name", "datatype", "shape"],
        "properties": {
            "name": {"type": "string", "enum": ["images"]},
            "datatype": {"type": "string", "enum": ["UINT8"]},
            "shape": {"type": "array", "items": {"type": "integer"}},
            "data": {"type": "array", "items": {}, "description": "Flat or nested, 0 to 255."},
            "parameters": {"type": "object"},
        },
    }
    schema = {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string"},
            "parameters": {"type": "object"},
            "inputs": {"type": "array", "minItems": 1, "items": tensor},
            "outputs": {"type": "array", "items": {"type": "object"}},
        },
    }
    content: dict[str, Any] = {"schema": schema}
    channels, height, width = example.input.shape if example is not None else (1, 28, 28)
    if channels * height * width <= LARGEST_EXAMPLE:
        images = {
            "name": "images",
            "datatype": "UINT8",
            "shape": [1, channels, height, width],
            "data": [0] * (channels * height * width),
        }
        content["example"] = {"inputs": [images]}
    return {
        "required": True,
        "content": {
            "application/json": content,
            "application/octet-stream": {"schema": BINARY},
        },
    }

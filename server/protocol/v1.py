"""The plain JSON protocol: encoded images in, labels by name out."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from server.errors import BadRequest
from server.protocol.sentences import first_sentence

__all__ = [
    "JsonQuery",
    "decode_base64",
    "decode_json",
    "encode_explanations",
    "encode_predictions",
    "ranked_labels",
]

TopK = Annotated[int, Field(ge=1)]


class JsonQuery(BaseModel):
    """The JSON body of a prediction.

    Attributes:
        images: base64 (RFC 4648, section 4) of PNG, JPEG or WebP files.
        top_k: how many labels to return for each; default: all.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    images: list[str] = Field(min_length=1)
    top_k: TopK | None = None


def decode_json(body: bytes) -> tuple[list[str], int | None]:
    """Read a JSON body into its images, still in base64, and ``top_k``.

    Raises:
        BadRequest: not JSON, or not a ``JsonQuery``; the message names the field.
    """
    try:
        query = JsonQuery.model_validate_json(body)
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False, include_context=False)
        raise BadRequest(first_sentence(details, root="the JSON body")) from None
    return query.images, query.top_k


def decode_base64(text: str, *, where: str) -> bytes:
    """Decode standard base64.

    Raises:
        BadRequest: something else.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest(f"{where} is not valid base64") from None


def ranked_labels(
    probabilities: NDArray[np.float32], labels: Sequence[str], top_k: int | None
) -> list[dict[str, Any]]:
    """Name the classes of one answer, most probable first; of equals, the lower index first.

    A probability is written as the shortest decimal that is still the same float32, so that an
    answer rounded to two decimals reads 0.98 and not 0.9800000190734863.

    Args:
        probabilities: ``(K,)`` float32.
        labels: K names.
        top_k: how many to keep; None or more than K: all.
    """
    order = np.argsort(-probabilities, kind="stable")[:top_k]
    return [
        {"label": labels[index], "probability": float(str(probabilities[index]))}
        for index in order.tolist()
    ]


def encode_predictions(
    probabilities: NDArray[np.float32],
    labels: Sequence[str],
    *,
    model: str,
    version: str,
    top_k: int | None,
) -> bytes:
    """Write the response for ``(n, K)`` probabilities.

    Raises:
        ValueError: a probability is not finite. That is for the defense chain to prevent; a codec
            that let it pass would be a second way out.
    """
    predictions = [{"labels": ranked_labels(row, labels, top_k)} for row in probabilities]
    return _written({"model": model, "version": version, "predictions": predictions})


def encode_explanations(
    probabilities: NDArray[np.float32],
    attributions: NDArray[np.float32],
    labels: Sequence[str],
    *,
    model: str,
    version: str,
    top_k: int | None,
) -> bytes:
    """Write the response for ``(n, K)`` probabilities with their ``(n, h, w)`` maps.

    Each explanation names the label it explains, which is the first of its labels; values of a
    map have three decimals, which is all they have.

    Raises:
        ValueError: a number is not finite; see ``encode_predictions``.
    """
    explanations = [
        {
            "labels": ranked_labels(row, labels, top_k),
            "explains": labels[int(row.argmax())],
            "attributions": [[round(value, 3) for value in line] for line in field.tolist()],
        }
        for row, field in zip(probabilities, attributions, strict=True)
    ]
    return _written({"model": model, "version": version, "explanations": explanations})


def _written(answer: dict[str, Any]) -> bytes:
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()

"""Validation errors as one sentence that names the field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["first_sentence", "place"]


def place(parts: Iterable[int | str]) -> str:
    """Write ``("inputs", 0, "shape")`` as ``inputs[0].shape``."""
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def first_sentence(errors: Sequence[Mapping[str, Any]], *, root: str) -> str:
    """Say what is wrong in the first of pydantic's ``errors``; ``root`` names the whole."""
    error = errors[0]
    message = str(error["msg"])
    return f"{place(error['loc']) or root}: {message[:1].lower()}{message[1:]}"

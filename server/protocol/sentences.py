"""Sentences about a request: which field of it is wrong, and what it asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from typing import Any
from urllib.parse import quote

__all__ = ["asked_path", "first_sentence", "place"]


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


def asked_path(scope: MutableMapping[str, Any]) -> str:
    """The path of a request on one line, as it may be sent; nothing else of ``scope`` decides it.

    Args:
        scope: of ASGI. An address made from all of it would hold what a caller says of the host.
    """
    return quote(scope["path"], safe="/:@!$&'()*+,;=~")

"""What a setting may hold that more than one section has: places, and names of machines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

__all__ = ["Host", "Place", "named_host"]


def named_host(host: str) -> str:
    """``host``, if it can be looked up at all: an address, a name, or nothing for any address.

    Raises:
        ValueError: no resolver would take it.
    """
    try:
        encoded = host.encode("idna")  # as the resolver does: labels of 1 to 63 characters
    except UnicodeError:
        encoded = b"\0"
    if b"\0" in encoded:
        raise ValueError(f"{host!r} is neither an address nor a name of a machine")
    return host


def _possible(path: Path) -> Path:
    if "\0" in str(path):
        raise ValueError("the name of a file cannot hold the character NUL")
    return path


Host = Annotated[str, AfterValidator(named_host)]
"""Where to listen."""

Place = Annotated[Path, AfterValidator(_possible)]
"""A file or a directory; it need not be there."""

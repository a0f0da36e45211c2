"""What a setting may hold that more than one section has: places, and addresses."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, SecretStr

__all__ = ["ApiKey", "Host", "HttpAddress", "Place", "named_host"]


def named_host(host: str) -> str:
    """``host``, if it can be looked up at all: an address, a name, or nothing for any address.

    Raises:
        ValueError: no resolver would take it.
    """
    try:
        host.encode("idna")  # as the resolver does: labels of 1 to 63 characters
        possible = host.isprintable()
    except UnicodeError:
        possible = False
    if not possible:
        raise ValueError("must be an address, or a name with 1 to 63 characters between the dots")
    return host


def _http_address(address: str) -> str:
    # Never the address itself: it may hold a password.
    if not address.startswith(("http://", "https://")):
        raise ValueError("must begin with http:// or https://")
    try:
        parts = urlsplit(address)
        if not named_host(parts.hostname or "") or parts.port == 0:
            raise ValueError
    except ValueError:
        raise ValueError("this is not an address of a server") from None
    return address


def _presentable(key: SecretStr) -> SecretStr:
    text = key.get_secret_value()
    if not text or text != text.strip() or not text.isprintable():
        # Headers lose the space around a key, and an empty one is none: nobody could present it.
        raise ValueError("a key must be printable, not empty, and without space around it")
    return key


def _possible(path: Path) -> Path:
    if "\0" in str(path):
        raise ValueError("the name of a file cannot hold the character NUL")
    return path


ApiKey = Annotated[SecretStr, AfterValidator(_presentable)]
"""A key that a caller can present in a header."""

Host = Annotated[str, AfterValidator(named_host)]
"""Where to listen."""

HttpAddress = Annotated[str, AfterValidator(_http_address)]
"""Where something is sent to."""

Place = Annotated[Path, AfterValidator(_possible)]
"""A file or a directory; it need not be there."""

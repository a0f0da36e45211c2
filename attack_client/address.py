"""Where a victim is and who asks: a URL and a key that can be used, or a sentence."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

import httpx

from attack_client.errors import AttackError

__all__ = ["LOOPBACK", "clean_url", "sendable"]

LOOPBACK = {"127.0.0.1", "::1", "localhost"}
"""Hosts that are this machine."""


def sendable(key: str | None) -> str | None:
    """``key``, where a header can carry it; the sentence must not show it.

    Raises:
        AttackError: it cannot be a header.
    """
    if key is not None and not (key and key.isascii() and key.isprintable() and key == key.strip()):
        raise AttackError("an API key must be printable ASCII without spaces around it")
    return key


def clean_url(url: str) -> tuple[str, str]:
    """The URL without query and trailing slash, and its host.

    Raises:
        AttackError: it is not one of http or https, holds credentials, or names a host that there
            cannot be.
    """
    if not url.isprintable() or " " in url:
        raise AttackError("the URL must hold no spaces and no control characters")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise AttackError(f"{url!r} is not a URL: {error}") from error
    if parts.scheme not in {"http", "https"} or not host:
        raise AttackError("the URL must look like http://HOST:PORT or https://HOST")
    if parts.username is not None or parts.password is not None:
        raise AttackError("the URL must hold no user name or password: give a key with --api-key")
    bracketed = f"[{host}]" if ":" in host else host
    where = bracketed if port is None else f"{bracketed}:{port}"
    clean = urlunsplit((parts.scheme, where, parts.path.rstrip("/"), "", ""))
    try:
        # Of an international name: encoded, and decoded again when it is asked.
        _ = httpx.URL(clean).host
    except (httpx.InvalidURL, UnicodeError) as error:
        raise AttackError(f"{url!r} is not a URL: {error}") from error
    return clean, host

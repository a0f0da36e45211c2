"""Responses compressed as the caller asked, where that pays."""

from __future__ import annotations

import zlib

__all__ = ["compress", "negotiate"]

WINDOW_BITS = {"gzip": 31, "deflate": 15}
SMALLEST = 512
"""Bytes below which compressing costs more than it saves."""


def negotiate(accept_encoding: str | None) -> str | None:
    """Choose gzip, deflate or None (identity) from ``Accept-Encoding`` (RFC 9110, 12.5.3).

    Codings are weighed by their ``q``; gzip wins a draw. What cannot be read is not asked for.
    """
    weights = {"gzip": 0.0, "deflate": 0.0}
    explicit: set[str] = set()
    anything = 0.0
    for item in (accept_encoding or "").lower().split(","):
        coding, _, parameter = (part.strip() for part in item.partition(";"))
        coding = coding.removeprefix("x-")
        weight = _weight(parameter)
        if coding == "*":
            anything = weight
        elif coding in weights:
            weights[coding] = weight
            explicit.add(coding)
    for coding in weights.keys() - explicit:
        weights[coding] = anything
    best = max(weights, key=lambda coding: weights[coding])
    return best if weights[best] > 0.0 else None


def compress(body: bytes, accept_encoding: str | None) -> tuple[bytes, dict[str, str]]:
    """Return the body to send and the headers that say how it is coded.

    The same body gives the same bytes: the gzip header carries no time.
    """
    headers = {"vary": "accept-encoding"}
    coding = negotiate(accept_encoding)
    if coding is None or len(body) < SMALLEST:
        return body, headers
    compressor = zlib.compressobj(level=1, wbits=WINDOW_BITS[coding])
    small = compressor.compress(body) + compressor.flush()
    return small, {**headers, "content-encoding": coding}


def _weight(parameter: str) -> float:
    if not parameter:
        return 1.0
    name, _, value = parameter.partition("=")
    try:
        weight = float(value)
    except ValueError:
        return 0.0
    return weight if name.strip() == "q" and 0.0 <= weight <= 1.0 else 0.0

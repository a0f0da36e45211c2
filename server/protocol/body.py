"""The body of a request, read within limits: bytes, time, and bytes after decompression."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request

from server.body_budget import BodyLease
from server.errors import BadRequest, CallerGone, RequestTimeout, TooLarge, UnsupportedMedia
from server.settings import LimitSettings

__all__ = ["Body", "inflate", "read_body"]

WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""zlib's ``wbits`` by content coding; ``deflate`` is the zlib format (RFC 9110, 8.4.1.2)."""


@dataclass(frozen=True, slots=True)
class Body:
    """A body as it came.

    Attributes:
        content: not decompressed.
        coding: of ``WINDOW_BITS``; None: it is plain.
        limit: bytes that it may come to.
        tensors: whether that is the limit of JSON with tensors.
    """

    content: bytearray
    coding: str | None
    limit: int
    tensors: bool

    def plain(self, lease: BodyLease) -> bytes:
        """The body decompressed, which ``lease`` then holds as well.

        Raises:
            QueueFull: all bodies together are over ``limits.max_buffered_bytes``.
            TooLarge: over the limit once decompressed.
            BadRequest: it does not decompress.
        """
        if self.coding is None:
            return bytes(self.content)
        plain = inflate(self.content, self.coding, limit=self.limit, tensors=self.tensors)
        # Here and not on the loop: threads must not run ahead of what is counted.
        lease.hold(len(plain))
        return plain


async def read_body(
    request: Request, limits: LimitSettings, lease: BodyLease, *, tensors: bool = False
) -> Body:
    """Read the body; ``lease`` holds its bytes as they arrive.

    Args:
        request: not read yet.
        limits: on its size, and on its time.
        lease: of the budget of all bodies.
        tensors: whether the body is nothing but JSON with tensors, of which less may be sent.

    Raises:
        QueueFull: all bodies together are over ``limits.max_buffered_bytes``.
        TooLarge: over ``limits.max_body_bytes``, or ``max_json_bytes`` for ``tensors``: as
            announced, or as sent.
        RequestTimeout: not there after ``limits.body_timeout_s``.
        UnsupportedMedia: a content coding other than gzip and deflate.
        CallerGone: the caller hung up half way.
    """
    tensors = tensors and limits.max_json_bytes < limits.max_body_bytes
    limit = limits.max_json_bytes if tensors else limits.max_body_bytes
    coding = _coding(request.headers)
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise _too_large(limit, tensors=tensors)
    body = bytearray()
    try:
        async with asyncio.timeout(limits.body_timeout_s):
            async for chunk in request.stream():
                if len(body) + len(chunk) > limit:
                    raise _too_large(limit, tensors=tensors)
                lease.hold(len(chunk))
                body += chunk
    except TimeoutError:
        raise RequestTimeout(
            f"the body did not arrive within {limits.body_timeout_s:g} s (limits.body_timeout_s)"
        ) from None
    except ClientDisconnect:
        raise CallerGone from None
    return Body(body, coding, limit, tensors)


def inflate(body: bytes | bytearray, coding: str, *, limit: int, tensors: bool = False) -> bytes:
    """Decompress ``body`` to at most ``limit`` bytes; ``coding`` is gzip, x-gzip or deflate.

    Args:
        body: compressed.
        coding: how.
        limit: in bytes.
        tensors: whether the limit is the one of JSON with tensors.

    Raises:
        TooLarge: there would be more than ``limit`` bytes; no more than that are ever produced.
        BadRequest: not that coding, cut short, or followed by something else.
    """
    decompressor = zlib.decompressobj(wbits=WINDOW_BITS[coding])
    try:
        plain = decompressor.decompress(body, limit + 1)
    except zlib.error:
        raise BadRequest(f"the body is not valid {coding} (content-encoding)") from None
    if len(plain) > limit:
        raise _too_large(limit, " once decompressed", tensors=tensors)
    if not decompressor.eof:
        raise BadRequest(f"the {coding} body is cut short (content-encoding)")
    if decompressor.unused_data:
        raise BadRequest(f"{len(decompressor.unused_data)} bytes follow the {coding} body")
    return plain


def _coding(headers: Mapping[str, str]) -> str | None:
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding in ("", "identity"):
        return None
    if coding not in WINDOW_BITS:
        raise UnsupportedMedia("content-encoding must be gzip, deflate or identity")
    return coding


def _too_large(limit: int, when: str = "", *, tensors: bool) -> TooLarge:
    if tensors:
        return TooLarge(
            f"the JSON body is larger than {limit} bytes{when} (limits.max_json_bytes); "
            "binary tensors take less"
        )
    return TooLarge(f"the body is larger than {limit} bytes{when} (limits.max_body_bytes)")

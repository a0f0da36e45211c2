"""The head of a request, line and headers, bounded in bytes and in time before anything reads it.

uvicorn's fast protocol bounds neither: a caller that sends a header for ever would fill the memory,
and one that sends a byte a minute would hold a connection, until there are no more to be had.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["HEAD_BYTES", "HEAD_S", "BoundedHeadProtocol"]

HEAD_BYTES = 64 * 2**10
"""Longest head that is read, give or take what one read from the socket brings."""

HEAD_S = 10.0
"""How long a head may take to arrive: from the connection, or from its first byte after that."""

REASONS = {400: b"Bad Request", 408: b"Request Timeout", 431: b"Request Header Fields Too Large"}


class BoundedHeadProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which refuses a head that is too long (431) or too slow (408)."""

    head_s: float = HEAD_S

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._arriving = 0
        self._reading_head = True
        self._begun = False
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first head."""
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._wait_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what belongs to a head; refuse one that is too long."""
        if self.transport.is_closing():
            return
        if self._reading_head:
            self._arriving += len(data)
        super().data_received(data)
        # What came with the last piece of a head may be its body: only unfinished heads count.
        if self._reading_head and self._arriving > HEAD_BYTES:
            self._refuse(431, f"the headers are larger than {HEAD_BYTES} bytes")

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._reading_head = self._begun = True
        if self._late is None:
            self._wait_for_head()

    def on_headers_complete(self) -> None:
        """The head is there: check it as a whole, and let the request begin."""
        self._reading_head, self._begun, self._arriving = False, False, 0
        self._wait_no_more()
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > HEAD_BYTES:
            self._refuse(431, f"the headers are larger than {HEAD_BYTES} bytes")
            return
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Part of a body; of nobody's, where its head was refused."""
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The end of a request; of none, where its head was refused."""
        if not self.transport.is_closing():
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP in the form of every other error."""
        self._refuse(400, msg)

    def _wait_for_head(self) -> None:
        self._late = self.loop.call_later(self.head_s, self._give_up)

    def _wait_no_more(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _give_up(self) -> None:
        self._late = None
        if self.cycle is not None and not self.cycle.response_complete:
            self._wait_for_head()  # the request before this one is still to be answered
        elif self._begun:
            self._refuse(408, f"the headers did not arrive within {self.head_s:g} s")
        elif not self.transport.is_closing():
            self.transport.close()

    def _refuse(self, status: int, message: str) -> None:
        if self.transport.is_closing():
            return
        body = json.dumps({"error": message}).encode()
        head = b"HTTP/1.1 %d %s\r\n" % (status, REASONS[status])
        fields = b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body)
        self.transport.write(head + fields + b"connection: close\r\n\r\n" + body)
        self.transport.close()

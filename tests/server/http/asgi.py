"""One request of an application, message by message, to do what no client library does."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import ASGIApp, Message


class Exchange:
    """A POST whose body arrives as the test says.

    Args:
        app: the application.
        path: of the request.
        headers: names in lower case.
        query: what follows the path, undecoded.
    """

    def __init__(
        self,
        app: ASGIApp,
        path: str,
        headers: dict[str, str] | None = None,
        *,
        query: bytes = b"",
    ) -> None:
        self._incoming: asyncio.Queue[Message] = asyncio.Queue()
        self.sent: list[Message] = []
        self.received = 0
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query,
            "root_path": "",
            "headers": [(k.encode(), v.encode()) for k, v in (headers or {}).items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
        }
        self.done = asyncio.ensure_future(app(scope, self._receive, self._send))

    def body(self, content: bytes, *, more: bool = False) -> None:
        """Let ``content`` arrive."""
        self._incoming.put_nowait({"type": "http.request", "body": content, "more_body": more})

    def hang_up(self) -> None:
        """Disconnect."""
        self._incoming.put_nowait({"type": "http.disconnect"})

    @property
    def status(self) -> int | None:
        """Status of the answer, once there is one."""
        return self.sent[0]["status"] if self.sent else None

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer."""
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    async def _receive(self) -> Message:
        message = await self._incoming.get()
        self.received += len(message.get("body", b""))
        return message

    async def _send(self, message: Message) -> None:
        self.sent.append(message)

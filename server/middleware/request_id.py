"""A name for every request, so that a caller's complaint finds its line in the log."""

from __future__ import annotations

import re
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.logs import REQUEST

__all__ = ["RequestId"]

ACCEPTABLE = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestId:
    """Takes ``X-Request-Id`` where it is harmless, or makes one; sends it back with the answer.

    Inner layers read it at ``scope["state"]["request_id"]``.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        name = given if ACCEPTABLE.fullmatch(given) else uuid.uuid4().hex
        # The state of a lifespan is shared by all requests; this belongs to one.
        scope["state"] = {**scope.get("state", {}), "request_id": name}

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["x-request-id"] = name
            await send(message)

        token = REQUEST.set(name)
        try:
            await self.app(scope, receive, named)
        finally:
            REQUEST.reset(token)

"""The last resort: what nobody expected is logged here and told to nobody."""

from __future__ import annotations

import logging

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.errors import InternalFailure
from server.protocol.error_bodies import error_response

__all__ = ["OpaqueFailures"]

logger = logging.getLogger(__name__)


class OpaqueFailures:
    """Turns any other exception into an opaque 500."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception:
            name = scope.get("state", {}).get("request_id", "-")
            logger.exception("request %s failed: %s %s", name, scope["method"], scope["path"])
            if started:
                # Half an answer is out already: only the server can end the connection.
                raise
            await error_response(InternalFailure())(scope, receive, send)

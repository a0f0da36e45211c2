"""A trace for every request, from its head to the last byte of its answer."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.middleware.request_metrics import route_template
from server.tracing import CURRENT, Traces

__all__ = ["Traced"]


class Traced:
    """Begins and ends traces; inner layers find theirs at ``server.tracing.CURRENT``."""

    def __init__(self, app: ASGIApp, *, traces: Traces) -> None:
        self.app = app
        self.traces = traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        trace = self.traces.request(scope["method"])
        token = CURRENT.set(trace)
        try:
            await self.app(scope, receive, watched)
        finally:
            CURRENT.reset(token)
            trace.end(route_template(scope), status)

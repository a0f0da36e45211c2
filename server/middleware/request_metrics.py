"""Requests by route, status and time."""

from __future__ import annotations

import time
from typing import Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["RequestMetrics", "RequestRecorder", "route_template"]

ELSEWHERE = "other"


class RequestRecorder(Protocol):
    """Whatever keeps count of requests."""

    def request(self, route: str, status: int, seconds: float) -> None:
        """Record one request."""
        ...


class RequestMetrics:
    """Records the route's template, never the path: paths are chosen by callers."""

    def __init__(self, app: ASGIApp, *, recorder: RequestRecorder) -> None:
        self.app = app
        self.recorder = recorder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 500
        started = time.perf_counter()

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            self.recorder.request(route_template(scope), status, time.perf_counter() - started)


def route_template(scope: Scope) -> str:
    """The template of the route that served ``scope``, for instance ``/v2/models/{name}``.

    ``other`` for paths that have no route, and for the OpenAPI page.
    """
    template = getattr(scope.get("route"), "path", ELSEWHERE)
    return template if isinstance(template, str) else ELSEWHERE

"""Refuses queries at the door while the queue has no room for one more sample.

A refusal that went the whole way through routing, body and decoding would cost the event loop
almost as much as an accepted query; under a flood of them the loop would be late to hand the engine
its next batch.
"""

from __future__ import annotations

import time
from typing import Protocol

from starlette.types import ASGIApp, Receive, Scope, Send

from server.errors import ServiceError
from server.protocol.error_bodies import error_response

__all__ = ["Crowd", "ShedAtTheDoor"]


class Crowd(Protocol):
    """Whatever knows how full the service is."""

    def overload(self) -> ServiceError | None:
        """Why a query of one sample would be refused now; None if it would be accepted."""
        ...


class Recorder(Protocol):
    """Whatever counts requests and refusals."""

    def request(self, route: str, status: int, seconds: float) -> None:
        """Record one request."""
        ...

    def refused(self, reason: str, samples: int) -> None:
        """Record one refusal."""
        ...


class ShedAtTheDoor:
    """Answers every POST with the reason while there is one; the body is not read.

    How many samples were asked about is unknown then: the refusal counts as a request without
    samples.
    """

    def __init__(self, app: ASGIApp, *, crowd: Crowd, recorder: Recorder | None) -> None:
        self.app = app
        self.crowd = crowd
        self.recorder = recorder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve or refuse one request."""
        full = None
        if scope["type"] == "http" and scope["method"] == "POST":
            full = self.crowd.overload()
        if full is None:
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        await error_response(full)(scope, receive, send)
        if self.recorder is not None:
            self.recorder.refused(full.reason, 0)
            self.recorder.request("door", full.status, time.perf_counter() - started)

"""Refuses queries at the door while the queue has no room for one more sample.

A refusal that went the whole way through routing, body and decoding would cost the event loop
almost as much as an accepted query. And a caller that asks again the moment it is refused costs
more than one that is answered: thousands of refusals a second take the processor from the engine,
and so from those who were accepted. Refusals therefore leave at a bounded rate; while there are few
of them they leave at once.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from starlette.types import ASGIApp, Receive, Scope, Send

from server.errors import QueueFull, ServiceError
from server.protocol.error_bodies import error_response

__all__ = ["Crowd", "ShedAtTheDoor"]

REFUSALS_PER_S = 500
"""How many refusals leave in a second, but for those that were held back long enough."""

BURST = 16
"""Refusals in a row that are not held back: a load balancer learns at once to go elsewhere."""

LONGEST_S = 2.0
"""How long a refusal is held back at most."""


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
        self._next_turn = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve or refuse one request."""
        full = None
        if scope["type"] == "http" and scope["method"] == "POST":
            full = self.crowd.overload()
        if full is None:
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        if isinstance(full, QueueFull):
            await self._hold()
        await error_response(full)(scope, receive, send)
        if self.recorder is not None:
            self.recorder.refused(full.reason, 0)
            self.recorder.request("door", full.status, time.perf_counter() - started)

    async def _hold(self) -> None:
        """Wait for this refusal's turn to leave."""
        now = asyncio.get_running_loop().time()
        turn = min(max(self._next_turn, now), now + LONGEST_S)
        self._next_turn = turn + 1 / REFUSALS_PER_S
        if turn - now > BURST / REFUSALS_PER_S:
            await asyncio.sleep(turn - now)

"""The way of one request along the path of a query: from its body to what leaves."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from fastapi import Request
from numpy.typing import NDArray
from starlette.responses import Response

from server.admission import Caller, Grant, Once
from server.audit import AuditEntry
from server.body_budget import BodyLease
from server.dataplane import ModelView
from server.errors import DeadlinePassed, Draining, InternalFailure, NotFound, ServiceError
from server.protocol.body import Body, read_body
from server.routes.answer import Answer, Codec, Question
from server.routes.hang_up import unless_gone
from server.routes.replays import once_of, paid, unpacked

__all__ = ["Passage"]

if TYPE_CHECKING:
    from server.routes.query import QueryPath

T = TypeVar("T")


@dataclass(eq=False, slots=True)
class Passage:
    """One request on its way; runs once.

    Attributes:
        path: what is the same for every request.
        request: with the caller put on it.
        codec: the protocol's part.
        entry: filled in on the way.
        lease: what its body holds of the budget; given back at the end, or once it is decoded.
        view: the model that answers, as the caller sees it.
        began: when the body had arrived, by the event loop's clock.
        deadline_s: how long after that the caller is answered at the latest.
        within_plane: whether the data plane was asked, which counts what it refuses itself.
    """

    path: QueryPath
    request: Request
    codec: Codec
    entry: AuditEntry
    lease: BodyLease
    view: ModelView = field(init=False)
    began: float = field(init=False)
    deadline_s: float = field(init=False)
    within_plane: bool = field(init=False, default=False)

    @property
    def caller(self) -> Caller:
        """Who asks."""
        caller: Caller = self.request.state.caller
        return caller

    async def run(self, name: str, version: str | None) -> Response:
        """What leaves of the model ``name``; None for its default version.

        Raises:
            ServiceError: any of them; see ``server.errors``.
        """
        path, codec, entry = self.path, self.codec, self.entry
        try:
            with self.lease:
                _check_scope(self.caller, codec.explain)
                self.view = path.plane.view(name, version, tier=self.caller.tier)
                self.deadline_s = min(path.deadline_s, self.view.deadline_s or math.inf)
                entry.version, entry.weights = self.view.version, path.plane.weights(self.view)
                if codec.explain and self.view.maps is None:
                    raise NotFound(f"model {name!r} has no explanations")
                if not path.plane.ready:
                    raise Draining(retry_after=1.0)
                # Not under a name of its own: only who reads the body holds it, and lets go of it.
                response = self._respond(
                    await read_body(self.request, path.limits, self.lease, tensors=codec.tensors)
                )
                self.began = asyncio.get_running_loop().time()
                return await unless_gone(self.request.receive, response)
        except ServiceError as error:
            if not self.within_plane:
                path.refused(error.reason, entry.samples)
            raise
        except Exception:
            path.refused(InternalFailure.reason, entry.samples)
            raise

    async def _respond(self, arrived: Body) -> Response:
        codec, entry, caller, view = self.codec, self.entry, self.caller, self.view
        body = await _before(self.began + self.deadline_s, self._plain(arrived))
        del arrived
        once = await once_of(self.request, view, caller.tier, body)
        question = await _before(self.began + self.deadline_s, codec.read(view, body))
        body = b""
        entry.samples, entry.explain = question.samples, question.explain
        # Before anything is decoded: that costs too much to be had for nothing.
        grant = await self._admitted(question, once)
        entry.replayed = grant.replayed
        try:
            if grant.stored is not None:
                # Its time went to waiting for the first request; it is answered all the same.
                deadline = asyncio.get_running_loop().time() + self.deadline_s
                entry.images = await self._decoded(question, deadline)
                return await codec.encode(unpacked(grant.stored, view))
            return await paid(
                grant,
                self._ask(question),
                codec.encode,
                impatient=(question.timeout_s or math.inf) < self.deadline_s,
            )
        finally:
            entry.charged = grant.balance

    async def _admitted(self, question: Question, once: Once | None) -> Grant:
        # Whoever keeps the budgets may hang; who has not been admitted by then is not charged.
        left_s = self._left_s(question)
        return await _before(
            asyncio.get_running_loop().time() + left_s,
            self.path.admission.admit(self.caller, self._cost(question), once, patience_s=left_s),
        )

    def _left_s(self, question: Question) -> float:
        """Seconds until the caller is to be answered, or has stopped waiting."""
        wait_s = min(self.deadline_s, question.timeout_s or math.inf)
        return self.began + wait_s - asyncio.get_running_loop().time()

    async def _plain(self, arrived: Body) -> bytes:
        plain = partial(arrived.plain, self.lease)
        if arrived.coding is None:
            return plain()
        # In turn: who may ask how much is known only of what is decompressed.
        return await self.path.inflating.take(self.path.known(self.request), plain)

    async def _ask(self, question: Question) -> Answer:
        images = await self._decoded(question, self.began + self.deadline_s)
        self.entry.images = images
        left_s = self._left_s(question)
        if left_s <= 0:
            raise DeadlinePassed
        self.within_plane = True
        return await self.path.asking.ask(
            self.view,
            images,
            explain=question.explain,
            timeout_s=left_s,
            caller=self.caller.identity,
        )

    def _cost(self, question: Question) -> int:
        """Samples that ``question`` counts as, if the caller may ask it at all."""
        self.caller.require("explain" if question.explain else "infer")
        cost, samples = self.view.explanation_cost if question.explain else 1, question.samples
        self.path.check_samples(samples, cost=cost, most=self.view.max_request_samples)
        return samples * cost

    async def _decoded(self, question: Question, deadline: float) -> NDArray[np.uint8]:
        images = await _before(deadline, question.images())
        # From here the queue bounds the images; until here this bounded what they came as.
        self.lease.release()
        return images


async def _before(deadline: float, work: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout_at(deadline):
            return await work
    except TimeoutError:
        raise DeadlinePassed from None


def _check_scope(caller: Caller, explain: bool) -> None:
    """Refuse whoever may not ask, whatever its body asks for: nobody's is read in vain."""
    if explain or "explain" not in caller.scopes:
        caller.require("explain" if explain else "infer")

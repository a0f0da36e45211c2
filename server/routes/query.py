"""What every protocol does with a query: who asks, read, may they, decode, wait for the answer."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
from fastapi import Request
from numpy.typing import NDArray
from starlette.responses import Response

from server.admission import Admission, Caller
from server.audit import AuditEntry, AuditLog
from server.body_budget import BodyBudget, BodyLease
from server.dataplane import DataPlane, ModelView
from server.errors import (
    BadRequest,
    CallerGone,
    DeadlinePassed,
    Draining,
    InternalFailure,
    NotFound,
    ServiceError,
    TooLarge,
)
from server.protocol.body import read_body
from server.routes.answer import Answer, Codec, Question
from server.routes.asking import Asking
from server.routes.hang_up import unless_gone
from server.routes.replays import once_of, paid, unpacked
from server.settings import Settings

__all__ = ["QueryPath", "RefusalRecorder"]

if TYPE_CHECKING:
    from server.monitor import QueryMonitor

T = TypeVar("T")


class RefusalRecorder(Protocol):
    """Whatever counts requests that never reached the data plane."""

    def refused(self, reason: str, samples: int) -> None:
        """Record one refusal."""
        ...


class QueryPath:
    """The part of the path of a query that is the same whatever the protocol."""

    def __init__(
        self,
        plane: DataPlane,
        settings: Settings,
        admission: Admission,
        recorder: RefusalRecorder | None = None,
        monitor: QueryMonitor | None = None,
        *,
        audit: AuditLog | None = None,
    ) -> None:
        self.plane = plane
        self.limits = settings.limits
        self.bodies = BodyBudget(self.limits.max_buffered_bytes, self.limits.caller_buffered_bytes)
        self._told_apart = not settings.open_to_all
        self._deadline_s = settings.batching.deadline_s
        self.admission = admission
        self._recorder = recorder
        self._asking = Asking(plane, monitor)
        self._audit = audit

    async def identify(self, request: Request) -> None:
        """A dependency of every route that is not open to all: puts the caller on the request.

        Raises:
            Unauthorized: no valid key.
        """
        try:
            request.state.caller = await self.admission.identify(request.headers)
        except ServiceError as error:
            if request.method == "POST":
                self._refused(error.reason, 0)
            raise

    async def answer(
        self, request: Request, name: str, version: str | None, codec: Codec
    ) -> Response:
        """Take ``request`` from its body to what leaves.

        Args:
            request: with the caller put on it by ``identify``.
            name: of the model.
            version: None for the default one.
            codec: the protocol's part. Who does not get an answer because it cannot be encoded
                is not charged, and audited as failed.

        Raises:
            ServiceError: any of them; see ``server.errors``.
        """
        caller: Caller = request.state.caller
        entry = AuditEntry(_request_id(request), caller.identity, name)
        try:
            response = await self._answer(request, name, version, codec, entry)
        except ServiceError as error:
            entry.status, entry.decision = error.status, error.reason
            self._recorded(entry)
            raise
        except asyncio.CancelledError:
            entry.status, entry.decision = CallerGone.status, CallerGone.reason
            self._recorded(entry)
            raise
        except Exception:
            self._recorded(entry)
            raise
        entry.status, entry.decision = 200, "answered"
        recorded = self._recorded(entry)
        if recorded is not None:
            # Not after the answer: what left and is not in the audit cannot be found out.
            # A disk that hangs holds nobody for longer than a model may.
            await asyncio.wait([asyncio.wrap_future(recorded)], timeout=self._deadline_s)
        return response

    async def _answer(
        self,
        request: Request,
        name: str,
        version: str | None,
        codec: Codec,
        entry: AuditEntry,
    ) -> Response:
        within_plane = False
        body = b""
        lease = self.bodies.lease(self.known(request))
        caller: Caller = request.state.caller

        async def from_body_to_response() -> Response:
            nonlocal body
            once = await once_of(request, view, caller.tier, body)
            question = await self._before(began + deadline_s, codec.read(view, body))
            body = b""
            entry.samples, entry.explain = question.samples, question.explain
            cost = self._cost(caller, view, question)
            # Before anything is decoded: that costs too much to be had for nothing.
            grant = await self.admission.admit(caller, cost, once)
            entry.replayed = grant.replayed
            try:
                if grant.stored is not None:
                    # Its time went to waiting for the first request; it is answered all the same.
                    entry.images = await self._decoded(question, lease, loop.time() + deadline_s)
                    return await codec.encode(unpacked(grant.stored, view))
                return await paid(
                    grant,
                    from_question_to_answer(question),
                    codec.encode,
                    impatient=(question.timeout_s or math.inf) < deadline_s,
                )
            finally:
                entry.charged = grant.balance

        async def from_question_to_answer(question: Question) -> Answer:
            nonlocal within_plane
            entry.images = await self._decoded(question, lease, began + deadline_s)
            wait_s = min(deadline_s, question.timeout_s or math.inf)
            left_s = began + wait_s - loop.time()
            if left_s <= 0:
                raise DeadlinePassed
            within_plane = True
            return await self._asking.ask(
                view,
                entry.images,
                explain=question.explain,
                timeout_s=left_s,
                caller=caller.identity,
            )

        try:
            with lease:
                _check_scope(caller, codec.explain)
                view = self.plane.view(name, version, tier=caller.tier)
                deadline_s = min(self._deadline_s, view.deadline_s or math.inf)
                entry.version, entry.weights = view.version, self.plane.weights(view)
                if codec.explain and view.maps is None:
                    raise NotFound(f"model {name!r} has no explanations")
                if not self.plane.ready:
                    raise Draining(retry_after=1.0)
                body = await read_body(request, self.limits, lease, tensors=codec.tensors)
                loop = asyncio.get_running_loop()
                began = loop.time()
                return await unless_gone(request.receive, from_body_to_response())
        except ServiceError as error:
            if not within_plane:
                self._refused(error.reason, entry.samples)
            raise
        except Exception:
            self._refused(InternalFailure.reason, entry.samples)
            raise

    def _cost(self, caller: Caller, view: ModelView, question: Question) -> int:
        """Samples that ``question`` counts as, if ``caller`` may ask it at all."""
        caller.require("explain" if question.explain else "infer")
        cost, samples = view.explanation_cost if question.explain else 1, question.samples
        self.check_samples(samples, cost=cost, most=view.max_request_samples)
        return samples * cost

    async def _decoded(
        self, question: Question, lease: BodyLease, deadline: float
    ) -> NDArray[np.uint8]:
        images = await self._before(deadline, question.images())
        # From here the queue bounds the images; until here this bounded what they came as.
        lease.release()
        return images

    def _recorded(self, entry: AuditEntry) -> Future[None] | None:
        return None if self._audit is None else self._audit.record(entry)

    def known(self, request: Request) -> str | None:
        """Who sent ``request``; None where callers are not told apart."""
        caller: Caller = request.state.caller
        return caller.identity if self._told_apart else None

    def view(self, request: Request, name: str, version: str | None = None) -> ModelView:
        """One served model, as whoever sent ``request`` sees it.

        Raises:
            NotFound: no such name or version.
        """
        caller: Caller = request.state.caller
        return self.plane.view(name, version, tier=caller.tier)

    def models(self, request: Request) -> tuple[ModelView, ...]:
        """Every served model, as whoever sent ``request`` sees it."""
        caller: Caller = request.state.caller
        return self.plane.models(caller.tier)

    def check_samples(self, samples: int, *, cost: int = 1, most: int | None = None) -> None:
        """Refuse a request for no image, or for too many, before they are decoded.

        Args:
            samples: images in the request.
            cost: samples that each of them counts as.
            most: a limit of the model, where it is known by now and has one.

        Raises:
            BadRequest: none.
            TooLarge: more than ``limits.max_request_samples``, or than ``most``.
        """
        if samples < 1:
            raise BadRequest("a request must hold at least one image")
        limit = min(self.limits.max_request_samples, most or self.limits.max_request_samples)
        if samples > limit:
            raise TooLarge(
                f"a request may hold {limit} images, not {samples} (limits.max_request_samples)"
            )
        if samples * cost > limit:
            raise TooLarge(
                f"an explained image counts as {cost} samples, of which a request may ask for "
                f"{limit} (limits.max_request_samples); this one explains {samples} images"
            )

    async def _before(self, deadline: float, work: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout_at(deadline):
                return await work
        except TimeoutError:
            raise DeadlinePassed from None

    def _refused(self, reason: str, samples: int) -> None:
        if self._recorder is not None:
            self._recorder.refused(reason, samples)


def _check_scope(caller: Caller, explain: bool) -> None:
    """Refuse whoever may not ask, whatever its body asks for: nobody's is read in vain."""
    if explain or "explain" not in caller.scopes:
        caller.require("explain" if explain else "infer")


def _request_id(request: Request) -> str:
    return str(getattr(request.state, "request_id", "-"))

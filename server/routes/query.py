"""What every protocol does with a query: who asks, read, may they, decode, wait for the answer."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import TYPE_CHECKING, Protocol

from fastapi import Request
from starlette.responses import Response

from server.admission import Admission, Caller
from server.audit import AuditEntry, AuditLog
from server.body_budget import BodyBudget
from server.dataplane import DataPlane, ModelView
from server.errors import BadRequest, CallerGone, ServiceError, TooLarge
from server.routes.answer import Codec
from server.routes.asking import Asking
from server.routes.passage import Passage
from server.settings import Settings
from server.turns import Turns

__all__ = ["QueryPath", "RefusalRecorder"]

if TYPE_CHECKING:
    from server.monitor import QueryMonitor


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
        self.inflating = Turns("intaglio-inflate")
        self._told_apart = not settings.open_to_all
        self.deadline_s = settings.batching.deadline_s
        self.admission = admission
        self._recorder = recorder
        self.asking = Asking(plane, monitor)
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
                self.refused(error.reason, 0)
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
            lease = self.bodies.lease(self.known(request))
            response = await Passage(self, request, codec, entry, lease).run(name, version)
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
            await asyncio.wait([asyncio.wrap_future(recorded)], timeout=self.deadline_s)
        return response

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

    def refused(self, reason: str, samples: int) -> None:
        """Count a request of ``samples`` that never reached the data plane."""
        if self._recorder is not None:
            self._recorder.refused(reason, samples)


def _request_id(request: Request) -> str:
    return str(getattr(request.state, "request_id", "-"))

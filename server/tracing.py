"""Traces for OpenTelemetry: a request, its wait for a batch, the forward pass, each link.

A span says which route, how many samples, how long, and with which status; nothing of it tells a
caller, a key, an image or an answer. Trace ids that callers send are not taken over: they would
choose what is sampled, and mix their traces with each other's.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span, Tracer

    from server.settings import TracingSettings

__all__ = ["CURRENT", "Lap", "RequestTrace", "Traces"]

EXPORT_S = 5
"""How long the collector may take. What it does not take is dropped; no request waits for it."""


class Lap(NamedTuple):
    """A part of what one batch took; each begins where the one before it ended.

    Attributes:
        name: ``forward``, ``defense`` or ``explanation``.
        seconds: how long it took.
        defense: kind of the link, where it is one.
    """

    name: str
    seconds: float
    defense: str | None = None


class RequestTrace:
    """The trace of one request that is being served."""

    def __init__(self, tracer: Tracer, method: str) -> None:
        from opentelemetry.context import Context
        from opentelemetry.trace import SpanKind

        self._tracer = tracer
        # From nothing, whatever the headers say.
        self.span: Span = tracer.start_span(
            "request",
            context=Context(),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method},
        )

    def computed(
        self, *, accepted: float, began: float, samples: int, laps: Sequence[Lap], laps_began: float
    ) -> None:
        """Add what became of one part of the request.

        Args:
            accepted: when it began to wait, by ``time.perf_counter``.
            began: when its batch began.
            samples: images in that batch.
            laps: what the batch was computed in.
            laps_began: when the first of them began.
        """
        self._add("queue", accepted, began, {})
        at = laps_began
        for lap in laps:
            attributes: dict[str, str | int] = {"intaglio.batch.samples": samples}
            if lap.defense is not None:
                attributes["intaglio.defense"] = lap.defense
            self._add(lap.name, at, at + lap.seconds, attributes)
            at += lap.seconds

    def _add(self, name: str, began: float, ended: float, attributes: dict[str, str | int]) -> None:
        from opentelemetry.trace import set_span_in_context

        # Spans are told in time since 1970; what is measured here is not.
        epoch = time.time() - time.perf_counter()
        span = self._tracer.start_span(
            name,
            context=set_span_in_context(self.span),
            start_time=int((began + epoch) * 1e9),
            attributes=attributes,
        )
        span.end(int((ended + epoch) * 1e9))

    def end(self, route: str, status: int) -> None:
        """The request is answered."""
        from opentelemetry.trace import StatusCode

        self.span.update_name(route)
        self.span.set_attribute("http.route", route)
        self.span.set_attribute("http.response.status_code", status)
        if status >= 500:
            self.span.set_status(StatusCode.ERROR)
        self.span.end()


CURRENT: ContextVar[RequestTrace | None] = ContextVar("intaglio-trace", default=None)
"""The trace of the request that this task serves."""


class Traces:
    """Where traces go; needs the extra ``otel``.

    Args:
        settings: with an ``endpoint``.
        exporter: takes the spans; by default OTLP over HTTP to the endpoint.
    """

    def __init__(self, settings: TracingSettings, exporter: SpanExporter | None = None) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

        if exporter is None:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            exporter = OTLPSpanExporter(endpoint=settings.endpoint, timeout=EXPORT_S)
        self._provider: TracerProvider = TracerProvider(
            resource=Resource.create({"service.name": "intaglio"}),
            sampler=TraceIdRatioBased(settings.share),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("intaglio")

    def request(self, method: str) -> RequestTrace:
        """Begin the trace of one request."""
        return RequestTrace(self._tracer, method)

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()

"""What an operator sees of a running server: Prometheus metrics, for the operator's port only.

Base units, histograms rather than summaries (they add up across replicas), label sets that are
closed by the configuration or by this file, and never a caller's identity.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    ProcessCollector,
)

from server.distribution import Distribution

__all__ = ["REASONS", "RELEASES", "SECONDS", "Metrics"]

SECONDS = (
    *(1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
"""Upper bounds of every duration: 100 microseconds to 30 seconds."""

BATCH_SIZES = tuple(float(2**power) for power in range(13))
DISTORTIONS = (
    0.0,
    1e-5,
    1e-4,
    1e-3,
    0.01,
    0.05,
    0.1,
    0.2,
    0.4,
    0.6,
    0.8,
    1.0,
    1.25,
    1.5,
    1.75,
    2.0,
)

REASONS = (
    "bad-request",  # undecodable, or of a wrong shape
    "cancelled",  # the caller left
    "conflict",  # an idempotency key that belongs to another request
    "deadline",  # not computed in time
    "draining",  # not ready, or shutting down
    "failed",  # a row broke an invariant of its chain, or the forward pass failed
    "forbidden",
    "impatient",  # as deadline and queue-full, of a caller that allowed a fraction of the deadline
    "not-found",
    "over-limit",  # this caller is over its own limit
    "queue-full",
    "store-away",  # keys, limits or budgets cannot be looked up
    "too-large",
    "unauthorized",
    "unsupported",
    "other",
)
"""Why samples were not answered with a prediction; anything else is counted as ``other``."""

RELEASES = ("full", "idle", "busy", "waited")
"""Why a batch left: it was full; the engine was idle; the engine became free; its wait was over."""


class Metrics:
    """Every metric of one server, in a registry of its own.

    All methods may be called from any thread. What happens behind ``DataPlane.predict`` (queue
    full, draining, deadline, cancelled, failed, and requests that it finds malformed or too large)
    is counted there; callers of ``refused`` count only what never reached it.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._callers_side(self.registry)
        self._engine_side(self.registry)
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def _callers_side(self, into: CollectorRegistry) -> None:
        """What callers ask and are answered."""
        self._requests = Counter(
            "intaglio_requests", "Requests by route and status.", ["route", "status"], registry=into
        )
        self._request_seconds = Histogram(
            "intaglio_request_seconds",
            "From the first byte of a request to the last of its answer.",
            ["route"],
            buckets=SECONDS,
            registry=into,
        )
        self._refused = Counter(
            "intaglio_refused_requests",
            "Requests without a prediction, by reason.",
            ["reason"],
            registry=into,
        )
        self._refused_samples = Counter(
            "intaglio_refused_samples",
            "Samples without a prediction, by reason.",
            ["reason"],
            registry=into,
        )
        self._samples = Counter(
            "intaglio_samples", "Samples answered with a prediction.", ["model"], registry=into
        )
        self._explained = Counter(
            "intaglio_explained_samples",
            "Samples answered with an attribution map.",
            ["model"],
            registry=into,
        )
        self._in_flight = Gauge(
            "intaglio_in_flight_samples", "Samples accepted and not yet answered.", registry=into
        )
        self._ready = Gauge("intaglio_ready", "Whether queries are accepted.", registry=into)
        for reason in REASONS:
            self._refused.labels(reason)
            self._refused_samples.labels(reason)

    def _engine_side(self, into: CollectorRegistry) -> None:
        """What waits, leaves in batches and is computed, and how far it was moved."""
        self._queue_seconds = Histogram(
            "intaglio_queue_seconds",
            "From the acceptance of a query to the start of its batch.",
            buckets=SECONDS,
            registry=into,
        )
        self._forward_seconds = Histogram(
            "intaglio_forward_seconds",
            "Forward pass of the victim over one batch.",
            ["model"],
            buckets=SECONDS,
            registry=into,
        )
        self._defense_seconds = Histogram(
            "intaglio_defense_seconds",
            "One link of a defense chain over one batch.",
            ["defense"],
            buckets=SECONDS,
            registry=into,
        )
        self._explanation_seconds = Histogram(
            "intaglio_explanation_seconds",
            "Attribution maps of one batch.",
            ["model"],
            buckets=SECONDS,
            registry=into,
        )
        self._batch_samples = Histogram(
            "intaglio_batch_samples", "Samples in a batch.", buckets=BATCH_SIZES, registry=into
        )
        self._batches = Counter(
            "intaglio_batches", "Batches, by why they left.", ["released"], registry=into
        )
        self._batch_failures = Counter(
            "intaglio_batch_failures",
            "Batches that failed and were retried in parts.",
            registry=into,
        )
        self._failed_rows = Counter(
            "intaglio_failed_rows",
            "Samples that broke an invariant of their chain.",
            registry=into,
        )
        self._top1_changed = Counter(
            "intaglio_top1_changed",
            "Samples whose served top-1 is not the victim's.",
            ["model"],
            registry=into,
        )
        self._queued = Gauge(
            "intaglio_queued_samples", "Samples that wait for a batch.", registry=into
        )
        self._distortion = Distribution(
            "intaglio_served_distortion_l1",
            "L1 distance between what the victim said and what left, per sample.",
            "model",
            DISTORTIONS,
        )
        into.register(self._distortion)
        self._defense_distortion = Distribution(
            "intaglio_defense_distortion_l1",
            "L1 distance between what a link was given and what it returned, per sample.",
            "defense",
            DISTORTIONS,
        )
        into.register(self._defense_distortion)
        for release in RELEASES:
            self._batches.labels(release)

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count one request: the template of its route, its HTTP status, how long it took."""
        self._requests.labels(route, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def refused(self, reason: str, samples: int) -> None:
        """Count one request without a prediction and its ``samples`` (0 where unknown)."""
        known = reason if reason in REASONS else "other"
        self._refused.labels(known).inc()
        self._refused_samples.labels(known).inc(samples)

    def ready(self, ready: bool) -> None:
        """Record whether queries are accepted."""
        self._ready.set(int(ready))

    def accepted(self, samples: int) -> None:
        """Record that ``samples`` were accepted."""
        self._in_flight.inc(samples)

    def settled(self, samples: int) -> None:
        """Record that ``samples`` accepted before have had their answer, whatever it was."""
        self._in_flight.dec(samples)

    def queued(self, samples: int) -> None:
        """Record how many samples wait now."""
        self._queued.set(samples)

    def waited(self, seconds: float) -> None:
        """Record how long one query waited for its batch."""
        self._queue_seconds.observe(seconds)

    def batch(self, released: str, samples: int) -> None:
        """Count one batch that left for a reason out of ``RELEASES``."""
        self._batches.labels(released).inc()
        self._batch_samples.observe(samples)

    def batch_failed(self) -> None:
        """Count one batch that failed as a whole."""
        self._batch_failures.inc()

    def failed_rows(self, rows: int) -> None:
        """Count rows that broke an invariant; a batch that is retried is not counted before."""
        self._failed_rows.inc(rows)

    def computed(
        self,
        model: str,
        *,
        forward_s: float,
        defenses: Sequence[tuple[str, float, NDArray[np.float32]]],
        distortion: NDArray[np.float32],
        top1_changed: int,
    ) -> None:
        """Record one forward pass of ``model`` and its chain.

        Args:
            model: served name.
            forward_s: seconds of the forward pass.
            defenses: of each link its kind, its seconds, and ``(n,)`` how far it moved (L1) each of
                the rows that did not fail.
            distortion: ``(n,)`` L1 distances of the rows that did not fail.
            top1_changed: how many of those rows have another top-1 than the victim's.
        """
        self._forward_seconds.labels(model).observe(forward_s)
        for kind, seconds, moved in defenses:
            self._defense_seconds.labels(kind).observe(seconds)
            self._defense_distortion.observe(kind, moved)
        self._distortion.observe(model, distortion)
        self._top1_changed.labels(model).inc(top1_changed)

    def explained(self, model: str, seconds: float) -> None:
        """Record how long the attribution maps of one batch of ``model`` took."""
        self._explanation_seconds.labels(model).observe(seconds)

    def answered(self, model: str, samples: int, *, explained: bool = False) -> None:
        """Count ``samples`` of ``model`` whose request was answered, with maps or without."""
        self._samples.labels(model).inc(samples)
        if explained:
            self._explained.labels(model).inc(samples)

"""What callers do to their limits, and whether those can be looked up: never which caller."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

__all__ = ["FUNCTIONS", "CallerMetrics"]

FUNCTIONS = ("keys", "rates", "budgets", "usage", "settling", "audit", "cache", "ping")
"""What fails when a store is away: who a caller is, its rate, its budget and idempotency keys, what
it is told of its use, the end of a charge, the audit, earlier answers; and the look at an idle
Redis."""

BUDGETS = ("day", "lifetime")
"""What a caller may use up."""

SHARES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)


class CallerMetrics:
    """Counts of callers' limits, beside those of ``server.metrics``.

    Args:
        registry: where they are registered.
        redis: whether there is a Redis to be up or down.
    """

    def __init__(self, registry: CollectorRegistry, *, redis: bool = False) -> None:
        self._errors = Counter(
            "intaglio_store_errors",
            "Look-ups about callers that failed, by what for.",
            ["function"],
            registry=registry,
        )
        for function in FUNCTIONS:
            self._errors.labels(function)
        self._up: Gauge | None = None
        if redis:
            self._up = Gauge(
                "intaglio_redis_up",
                "Whether Redis answered when it was last asked.",
                registry=registry,
            )
        self._charged = Counter(
            "intaglio_charged_samples", "Samples counted against callers.", registry=registry
        )
        self._refunded = Counter(
            "intaglio_refunded_samples",
            "Samples given back, because their request was not answered.",
            registry=registry,
        )
        self._replayed = Counter(
            "intaglio_replayed_requests",
            "Requests that were charged before, under the same idempotency key.",
            registry=registry,
        )
        self._used = Histogram(
            "intaglio_budget_used_share",
            "Share of a caller's budget that is used, at each of its charges.",
            ["budget"],
            buckets=SHARES,
            registry=registry,
        )
        for budget in BUDGETS:  # there from the start, or the first charge would be no increase
            self._used.labels(budget)
        self._unsettled = Gauge(
            "intaglio_unsettled_charges",
            "Charges whose end the store has not been told yet.",
            registry=registry,
        )

        self._oldest: float | None = None
        Gauge(
            "intaglio_unsettled_seconds",
            "For how long the oldest of these charges has waited to be told.",
            registry=registry,
        ).set_function(self._waited_s)
        self._lost = Counter(
            "intaglio_lost_charges",
            "Charges whose end the store will never be told: it takes none, or too many waited.",
            registry=registry,
        )

    def failed(self, function: str, times: int = 1) -> None:
        """Count one failed look-up, or several."""
        self._errors.labels(function if function in FUNCTIONS else "budgets").inc(times)

    def redis_up(self, up: bool) -> None:
        """Record whether Redis answered."""
        if self._up is not None:
            self._up.set(int(up))

    def charged(self, samples: int) -> None:
        """Count samples that a caller is charged."""
        self._charged.inc(samples)

    def refunded(self, samples: int) -> None:
        """Count samples that a caller got back."""
        self._refunded.inc(samples)

    def replayed(self) -> None:
        """Count one request that was charged before."""
        self._replayed.inc()

    def used(self, budget: str, share: float) -> None:
        """Record how much of its ``day`` or ``lifetime`` budget a caller has used."""
        self._used.labels(budget).observe(share)

    def unsettled(self, charges: int, oldest: float | None = None) -> None:
        """Record how many charges wait to be settled, the oldest since this monotonic time."""
        self._unsettled.set(charges)
        self._oldest = oldest

    def _waited_s(self) -> float:
        oldest = self._oldest
        return 0.0 if oldest is None else time.monotonic() - oldest

    def lost(self, charges: int = 1) -> None:
        """Count charges that are never settled."""
        self._lost.inc(charges)

"""What the answer cache tells the operator."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

__all__ = ["AnswerCacheMetrics"]


class AnswerCacheMetrics:
    """Counts of the answer cache, beside those of ``server.metrics``.

    Args:
        registry: where they are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._looked_up = Counter(
            "intaglio_answer_cache_samples",
            "Samples that were looked up among earlier answers.",
            ["outcome"],
            registry=registry,
        )
        self._failures = Counter(
            "intaglio_answer_cache_failures",
            "Calls of the answer cache's Redis that failed; what was asked was computed instead.",
            registry=registry,
        )
        self._bytes = Gauge(
            "intaglio_answer_cache_bytes",
            "Bytes of answers that are kept in memory.",
            registry=registry,
        )
        for outcome in ("hit", "miss"):
            self._looked_up.labels(outcome)

    def looked_up(self, *, hits: int, misses: int) -> None:
        """Count samples that were found and those that were not."""
        self._looked_up.labels("hit").inc(hits)
        self._looked_up.labels("miss").inc(misses)

    def failed(self) -> None:
        """Count a call that Redis did not answer."""
        self._failures.inc()

    def holds(self, size: float) -> None:
        """Record how many bytes are kept in memory."""
        self._bytes.set(size)

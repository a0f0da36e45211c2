"""What the monitor tells the operator: how many callers, never which."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.registry import Collector

__all__ = ["MonitorMetrics"]

STATISTICS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.875, 0.9, 0.92, 0.94, 0.96, 0.98, 1.0)
"""Where honest callers lie tells where the threshold belongs."""


class MonitorMetrics:
    """Counts of the monitor, beside those of ``server.metrics``.

    Args:
        registry: where they are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._followed = Gauge(
            "intaglio_monitor_followed_callers",
            "Pairs of caller and model whose queries are remembered.",
            registry=registry,
        )
        self._suspicious = Gauge(
            "intaglio_monitor_suspicious_callers",
            "Callers whose queries to a model look made, not found.",
            ["model"],
            registry=None,
        )
        self._read = _UpToDate(self._suspicious)
        registry.register(self._read)
        self._tests = Counter(
            "intaglio_monitor_tests",
            "Tests of callers' distances, by what came out.",
            ["model", "verdict"],
            registry=registry,
        )
        self._statistic = Histogram(
            "intaglio_monitor_statistic",
            "Shapiro-Wilk W of a caller's distances, of every test.",
            ["model"],
            buckets=STATISTICS,
            registry=registry,
        )
        self._tightened = Counter(
            "intaglio_monitor_tightened_samples",
            "Samples that suspicious callers asked and that their stricter chain is to answer.",
            ["model"],
            registry=registry,
        )
        self._missed = Counter(
            "intaglio_monitor_missed_samples",
            "Samples answered but not looked at, because the monitor was behind or failed.",
            registry=registry,
        )

    def before_scrapes(self, update: Callable[[], None]) -> None:
        """Have ``update`` called whenever suspects are read, in the thread that reads them."""
        self._read.update = update

    def followed(self, count: int) -> None:
        """Record how many pairs are followed now."""
        self._followed.set(count)

    def suspicious(self, model: str, count: int) -> None:
        """Record how many callers of ``model`` are under suspicion now."""
        self._suspicious.labels(model).set(count)

    def tested(self, model: str, *, statistic: float, natural: bool) -> None:
        """Count one test, and what it came to."""
        self._statistic.labels(model).observe(statistic)
        self._tests.labels(model, "natural" if natural else "suspicious").inc()

    def tightened(self, model: str, samples: int) -> None:
        """Count ``samples`` that a suspicious caller asked of the stricter chain."""
        self._tightened.labels(model).inc(samples)

    def missed(self, samples: int) -> None:
        """Count ``samples`` that were not looked at."""
        self._missed.inc(samples)


class _UpToDate(Collector):
    """A gauge that is brought up to date before it is read: what it counts ends by itself.

    Attributes:
        update: brings it up to date; None: it is up to date as it is.

    Args:
        gauge: not registered anywhere.
    """

    def __init__(self, gauge: Gauge) -> None:
        self.update: Callable[[], None] | None = None
        self._gauge = gauge

    def describe(self) -> Iterable[Metric]:
        """Names of what is read, so that nobody else registers them."""
        return self._gauge.describe()

    def collect(self) -> Iterable[Metric]:
        """Read the gauge."""
        if self.update is not None:
            self.update()
        return self._gauge.collect()

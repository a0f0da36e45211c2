"""A Prometheus histogram of many values at once: one observation per sample must stay cheap."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

__all__ = ["Distribution"]


class Distribution(Collector):
    """A histogram by one label that takes an array at a time. Thread-safe.

    Args:
        name: of the metric.
        documentation: what is observed, for the page.
        label: by which it is told apart.
        bounds: upper bounds of its buckets, rising, without the infinite one.
    """

    def __init__(
        self, name: str, documentation: str, label: str, bounds: tuple[float, ...]
    ) -> None:
        self._name, self._documentation, self._label = name, documentation, label
        self._bounds = np.asarray(bounds, dtype=np.float64)
        self._lock = threading.Lock()
        self._counts: dict[str, NDArray[np.int64]] = {}
        self._sums: dict[str, float] = {}

    def observe(self, label: str, values: NDArray[np.float32]) -> None:
        """Count each of ``values`` under ``label``."""
        # A value belongs to the first bucket whose upper bound is not below it.
        index = np.searchsorted(self._bounds, values.astype(np.float64), side="left")
        counts = np.bincount(index, minlength=len(self._bounds) + 1)
        with self._lock:
            known = self._counts.setdefault(label, np.zeros_like(counts))
            self._counts[label] = known + counts
            self._sums[label] = self._sums.get(label, 0.0) + float(values.sum())

    def describe(self) -> Iterable[HistogramMetricFamily]:
        """See ``Collector``: its name, before there is anything to show."""
        return [HistogramMetricFamily(self._name, self._documentation, labels=[self._label])]

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """See ``Collector``."""
        family = HistogramMetricFamily(self._name, self._documentation, labels=[self._label])
        names = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        with self._lock:
            shown = [(label, counts, self._sums[label]) for label, counts in self._counts.items()]
        for label, counts, total in shown:
            heights = [float(count) for count in counts.cumsum()]
            family.add_metric([label], list(zip(names, heights, strict=True)), total)
        yield family

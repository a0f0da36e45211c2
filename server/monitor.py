"""The monitor: who asks as a thief does. It looks at answered queries, off the event loop."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from server.monitor_distances import DistanceRecord, reduced
from server.monitor_metrics import MonitorMetrics
from server.settings import MonitorSettings

__all__ = ["QueryMonitor"]

logger = logging.getLogger(__name__)

BACKLOG = 2048
"""Samples that may wait to be looked at; what comes beyond that is answered, and missed. A request
that meets nobody waiting is looked at however large it is: size is no way around the monitor."""

AT_ONCE = 256
"""Samples that are compared at once."""

_Followed = tuple[str, str, str, tuple[int, ...]]
"""Caller, model, version and the shape of an image: the same version may be published again with
another, and such pictures have no distance to those before."""


class Witness(Protocol):
    """Whoever writes down what is found of callers."""

    def tested(
        self,
        caller: str,
        model: str,
        version: str,
        *,
        statistic: float,
        distances: int,
        natural: bool,
    ) -> None:
        """Record one test of a caller's distances, and whether it passed."""
        ...


class QueryMonitor:
    """Follows every caller's queries to every model, and suspects those that look made.

    A caller stays under suspicion for ``hold_s`` after the last test that failed. One caller who
    splits a theft over many keys is not found, nor is one who asks about natural images only.

    Thread-safe. What it knows is this process's and is gone when it ends.

    Args:
        settings: threshold and bounds.
        metrics: told of tests and suspects.
        witness: told of every test; None: nobody is.
    """

    def __init__(
        self,
        settings: MonitorSettings,
        metrics: MonitorMetrics,
        *,
        witness: Witness | None = None,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._witness = witness
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="intaglio-monitor")
        # Touched by the executor's thread only; least recently seen first.
        self._records: OrderedDict[_Followed, DistanceRecord] = OrderedDict()
        self._lock = threading.Lock()
        # From here on: guarded by the lock.
        self._waiting = 0
        self._suspects: OrderedDict[tuple[str, str], float] = OrderedDict()
        # Or where nobody asks, and no model has a stricter chain, suspicion would not end.
        metrics.before_scrapes(self._pass_time)

    def tightens(self, caller: str, model: str, samples: int) -> bool:
        """Whether ``samples`` that ``caller`` asks of ``model`` go through its stricter chain.

        Asked only where there is one.
        """
        if not self.suspects(caller, model):
            return False
        self._metrics.tightened(model, samples)
        return True

    def suspects(self, caller: str, model: str) -> bool:
        """Whether ``caller`` is under suspicion as to ``model``."""
        with self._lock:
            self._acquit()
            return (caller, model) in self._suspects

    def observe(
        self,
        caller: str,
        model: str,
        version: str,
        images: NDArray[np.uint8],
        probabilities: NDArray[np.float32],
    ) -> Future[None] | None:
        """Have a look at answered queries, some time soon.

        Args:
            caller: the identity that admission gave; no secret.
            model: served name.
            version: of the model.
            images: ``(n, C, H, W)``.
            probabilities: ``(n, K)``, what left.

        Returns:
            Done when they have been looked at; None if there is no room for them.
        """
        samples = len(images)
        with self._lock:
            self._acquit()
            if self._waiting and self._waiting + samples > BACKLOG:
                self._metrics.missed(samples)
                return None
            self._waiting += samples
        return self._executor.submit(self._look, caller, model, version, images, probabilities)

    def _look(
        self,
        caller: str,
        model: str,
        version: str,
        images: NDArray[np.uint8],
        probabilities: NDArray[np.float32],
    ) -> None:
        try:
            record = self._record((caller, model, version, images.shape[1:]))
            for start in range(0, len(images), AT_ONCE):
                rows = slice(start, start + AT_ONCE)
                test = record.add(reduced(images[rows]), probabilities[rows].argmax(axis=1))
                if test is None:
                    continue
                natural = test.statistic >= self._settings.threshold
                self._metrics.tested(model, statistic=test.statistic, natural=natural)
                if self._witness is not None:
                    self._witness.tested(
                        caller,
                        model,
                        version,
                        statistic=test.statistic,
                        distances=test.distances,
                        natural=natural,
                    )
                if not natural:
                    self._suspect(caller, model, test.statistic, test.distances, record.queries)
        except Exception:
            logger.exception("monitor: %d queries could not be looked at", len(images))
            self._metrics.missed(len(images))
        finally:
            with self._lock:
                self._waiting -= len(images)

    def _record(self, key: _Followed) -> DistanceRecord:
        record = self._records.get(key)
        if record is None:
            record = DistanceRecord(images=self._settings.images, window=self._settings.window)
            self._records[key] = record
            if len(self._records) > self._settings.callers:
                self._records.popitem(last=False)
            self._metrics.followed(len(self._records))
        self._records.move_to_end(key)
        return record

    def _suspect(
        self, caller: str, model: str, statistic: float, distances: int, queries: int
    ) -> None:
        with self._lock:
            self._acquit()
            known = (caller, model) in self._suspects
            self._suspects[caller, model] = time.monotonic() + self._settings.hold_s
            self._suspects.move_to_end((caller, model))
            if len(self._suspects) > self._settings.callers:
                (_, forgotten), _ = self._suspects.popitem(last=False)
                self._count(forgotten)
            if not known:
                self._count(model)
        if known:
            return
        logger.warning(
            "monitor: %s asks %s as a thief does (W %.3f of %d distances is below %g, after %d "
            "queries) and is answered through the stricter chain if there is one",
            caller,
            model,
            statistic,
            distances,
            self._settings.threshold,
            queries,
        )

    def _pass_time(self) -> None:
        with self._lock:
            self._acquit()

    def _acquit(self) -> None:
        """Forget suspicions that have lasted long enough, also of callers that left for good."""
        now = time.monotonic()
        # All last equally long, so the one that was raised first is over first.
        while self._suspects and next(iter(self._suspects.values())) <= now:
            (caller, model), _ = self._suspects.popitem(last=False)
            self._count(model)
            logger.info("monitor: %s is no longer suspected of stealing %s", caller, model)

    def _count(self, model: str) -> None:
        count = sum(name == model for _, name in self._suspects)
        self._metrics.suspicious(model, count)

"""What each served model has done so far, in the words of the protocol's statistics extension.

A request is one call of the data plane. ``inference_count`` counts samples, ``execution_count``
batches; the parts of a request that were computed in several batches count once for each.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from server.batches import Batch, Computed, Phases
from server.served import ServedModel

__all__ = ["Statistics"]

Key = tuple[str, str]


@dataclass(slots=True)
class _Tally:
    """How often something happened, and how long all of it took."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int, count: int = 1) -> None:
        self.count += count
        self.ns += ns

    def told(self) -> dict[str, int]:
        return {"count": self.count, "ns": self.ns}


@dataclass(slots=True)
class _Parts:
    """The three parts of a computation."""

    input: _Tally = field(default_factory=_Tally)
    infer: _Tally = field(default_factory=_Tally)
    output: _Tally = field(default_factory=_Tally)

    def add(self, phases: Phases, count: int = 1) -> None:
        self.input.add(phases.input * count, count)
        self.infer.add(phases.infer * count, count)
        self.output.add(phases.output * count, count)

    def told(self) -> dict[str, Any]:
        return {
            "compute_input": self.input.told(),
            "compute_infer": self.infer.told(),
            "compute_output": self.output.told(),
        }


@dataclass(slots=True)
class _Record:
    """Everything about one version of one model, whatever the tier."""

    last_ms: int = 0
    samples: int = 0
    batches: int = 0
    success: _Tally = field(default_factory=_Tally)
    fail: _Tally = field(default_factory=_Tally)
    queue: _Tally = field(default_factory=_Tally)
    compute: _Parts = field(default_factory=_Parts)
    hit: _Tally = field(default_factory=_Tally)
    miss: _Tally = field(default_factory=_Tally)
    sizes: dict[int, _Parts] = field(default_factory=dict)

    def told(self, name: str, version: str) -> dict[str, Any]:
        return {
            "name": name,
            "version": version,
            "last_inference": self.last_ms,
            "inference_count": self.samples,
            "execution_count": self.batches,
            "inference_stats": {
                "success": self.success.told(),
                "fail": self.fail.told(),
                "queue": self.queue.told(),
                **self.compute.told(),
                "cache_hit": self.hit.told(),
                "cache_miss": self.miss.told(),
            },
            "batch_stats": [
                {"batch_size": size, **parts.told()} for size, parts in sorted(self.sizes.items())
            ],
        }


class Statistics:
    """Counts for every served version since it was first served; belongs to the event loop."""

    def __init__(self) -> None:
        self._records: dict[Key, _Record] = {}

    def keep(self, models: Iterable[ServedModel]) -> None:
        """Count for exactly these from now on; what is known of others is forgotten."""
        keys = {(model.name, model.version) for model in models}
        self._records = {key: self._records.get(key, _Record()) for key in sorted(keys)}

    def answered(self, served: ServedModel, samples: int, *, began_ns: int) -> None:
        """Count a request that was answered; ``began_ns`` is of ``time.perf_counter_ns``."""
        if (record := self._of(served)) is not None:
            record.samples += samples
            record.success.add(time.perf_counter_ns() - began_ns)
            record.last_ms = time.time_ns() // 1_000_000

    def failed(self, served: ServedModel, *, began_ns: int) -> None:
        """Count a request that was not."""
        if (record := self._of(served)) is not None:
            record.fail.add(time.perf_counter_ns() - began_ns)

    def executed(self, batch: Batch[ServedModel], computed: Computed) -> None:
        """Count a batch that was computed."""
        record = self._of(batch.group)
        if record is None:
            return
        record.batches += 1
        for item in batch.items:
            record.queue.add(round((batch.began - item.accepted) * 1e9))
        if computed.phases is not None:
            record.compute.add(computed.phases, len(batch.items))
            record.sizes.setdefault(batch.samples, _Parts()).add(computed.phases)

    def looked_up(self, served: ServedModel, *, hits: int, misses: int, ns: int) -> None:
        """Count a look into the answer cache; counts are images, and hits take the time."""
        if (record := self._of(served)) is not None:
            record.hit.add(ns if hits else 0, hits)
            record.miss.add(0 if hits else ns, misses)

    def told(self, name: str | None = None, version: str | None = None) -> list[dict[str, Any]]:
        """The records of the extension's ``model_stats``, by name and version."""
        return [
            record.told(*key)
            for key, record in self._records.items()
            if name in (None, key[0]) and version in (None, key[1])
        ]

    def _of(self, served: ServedModel) -> _Record | None:
        # A request may end after its model was unloaded; that is nobody's statistic any more.
        return self._records.get((served.name, served.version))

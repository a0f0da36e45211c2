"""What an audit comes to, caller by caller."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from intaglio.audit_records import Record, VerdictRecord

__all__ = ["CallerSummary", "Curve", "summarise"]


@dataclass(slots=True)
class CallerSummary:
    """What one caller asked of one model.

    Attributes:
        key: id of its key.
        model: as asked for.
        requests: answered ones.
        samples: answered, those of replays included.
        charged: samples by which its account has changed.
        refused: requests that were not answered, by decision.
        distinct: images, by their hashes.
        judged: answered samples of which it is known how sure the victim was.
        unsure: those of which it was less sure than the threshold.
        tests: of its distances, by PRADA's monitor.
        suspicious: tests that failed.
        statistic: the lowest W of all tests; None: there was none.
        first: when it asked first.
        last: when it asked last.
    """

    key: str
    model: str
    requests: int = 0
    samples: int = 0
    charged: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    distinct: int = 0
    judged: int = 0
    unsure: int = 0
    tests: int = 0
    suspicious: int = 0
    statistic: float | None = None
    first: datetime | None = None
    last: datetime | None = None

    @property
    def unsure_share(self) -> float | None:
        """Share of answered samples that look foreign to the victim; None: nothing is known."""
        return self.unsure / self.judged if self.judged else None


@dataclass(frozen=True, slots=True)
class Curve:
    """What theft has been measured to yield: fidelity by distinct samples, both ascending.

    Attributes:
        budgets: samples.
        fidelities: the best clone's agreement with the victim at each.
    """

    budgets: tuple[int, ...]
    fidelities: tuple[float, ...]

    def at(self, samples: int) -> str:
        """What so many samples may have yielded: read off between the measured budgets.

        Linear in the logarithm of the budget between two of them; beyond them only a bound.
        """
        if samples == 0:
            return "nothing"
        if samples < self.budgets[0]:
            return f"< {self.fidelities[0]:.1%}"
        if samples > self.budgets[-1]:
            return f"> {self.fidelities[-1]:.1%}"
        for index in range(len(self.budgets) - 1):
            low, high = self.budgets[index], self.budgets[index + 1]
            if samples <= high:
                share = (math.log(samples) - math.log(low)) / (math.log(high) - math.log(low))
                below, above = self.fidelities[index], self.fidelities[index + 1]
                return f"{below + share * (above - below):.1%}"
        return f"{self.fidelities[-1]:.1%}"

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]]) -> Curve:
        """The upper envelope of a report's rows: the best attack at each budget, never falling.

        Raises:
            ValueError: no row has a fidelity.
        """
        best: dict[int, float] = {}
        for row in rows:
            if row["fidelity"] is not None:
                best[row["budget"]] = max(best.get(row["budget"], 0.0), row["fidelity"])
        if not best:
            raise ValueError("no row has a fidelity")
        budgets = sorted(best)
        so_far, envelope = 0.0, []
        for budget in budgets:
            so_far = max(so_far, best[budget])
            envelope.append(so_far)
        return cls(tuple(budgets), tuple(envelope))


def summarise(
    records: Iterable[Record], *, unsure_below: float, since: datetime | None = None
) -> Sequence[CallerSummary]:
    """One summary for each pair of caller and model; most samples first.

    Args:
        records: as read.
        unsure_below: confidence of the victim below which a sample looks foreign to it, in (0, 1].
        since: leave out what is older.
    """
    found: dict[tuple[str, str], CallerSummary] = {}
    images: dict[tuple[str, str], set[int]] = {}
    for record in records:
        moment = record["time"]
        if since is not None and moment < since:
            continue
        pair = (record["key"], record["model"])
        summary = found.setdefault(pair, CallerSummary(*pair))
        if record["event"] == "test":
            _add_test(summary, record)
            continue
        summary.first = min(summary.first or moment, moment)
        summary.last = max(summary.last or moment, moment)
        summary.charged += record["charged"]
        if record["decision"] != "answered":
            summary.refused[record["decision"]] += 1
            continue
        summary.requests += 1
        summary.samples += record["samples"]
        # Earlier servers wrote the NaN of a victim that overflows.
        known = [
            value for value in record["confidence"] if value is not None and math.isfinite(value)
        ]
        summary.judged += len(known)
        summary.unsure += sum(value < unsure_below for value in known)
        images.setdefault(pair, set()).update(int(name, 16) for name in record["images"])
    for pair, seen in images.items():
        found[pair].distinct = len(seen)
    return sorted(found.values(), key=lambda summary: (-summary.samples, summary.key))


def _add_test(summary: CallerSummary, record: VerdictRecord) -> None:
    summary.tests += 1
    summary.suspicious += not record["natural"]
    lowest = summary.statistic
    summary.statistic = record["w"] if lowest is None else min(lowest, record["w"])

"""What small pools were worth, as tables and a sentence."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from attack_client.report import Row
from benchmarks.pool_ways import PARTS, POOLS, WAYS, Way

__all__ = ["claim", "compared"]


def compared(size: int, rows: Sequence[tuple[Way, Row]]) -> dict[str, object]:
    """A table of one pool: a line per way, means over seeds."""
    lines = []
    for way in WAYS:
        found = [row for other, row in rows if other == way]
        if found:
            shares = [100 * row.clone_accuracy for row in found]
            relative = statistics.fmean(row.relative_accuracy or 0.0 for row in found)
            lines.append(
                [
                    way.name,
                    way.labels,
                    f"{found[0].budget:,}",
                    str(len(found)),
                    f"{statistics.fmean(shares):.2f} %",
                    f"{min(shares):.2f} to {max(shares):.2f}" if len(shares) > 1 else "-",
                    f"{100 * relative:.2f} %",
                ]
            )
    return {
        "title": f"A pool of {size:,} images",
        "header": ["images asked", "labels", "queries", "seeds", "clone", "range, %", "relative"],
        "rows": lines,
    }


def claim(rows: Iterable[tuple[int, Way, Row]]) -> str:
    """What the rows say about more parts than two, in a sentence."""
    found = list(rows)
    told = []
    for size in POOLS:
        means = {}
        for parts in PARTS:
            shares = [
                row.clone_accuracy
                for of, way, row in found
                if (of, way.parts, way.labels) == (size, parts, "hard")
            ]
            if shares:
                means[parts] = statistics.fmean(shares)
        if means:
            best = max(means, key=lambda parts: means[parts])
            listed = ", ".join(f"{100 * mean:.1f} % of {parts}" for parts, mean in means.items())
            told.append(f"of {size:,} images {listed}, best with {best} parts")
    return "Blends of more parts, hard labels: " + "; ".join(told) + "."

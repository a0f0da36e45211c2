"""What a training step of each objective costs, as a table: a line per objective and network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.markdown import table

__all__ = ["is_of_steps", "step_table"]

SPREAD = ", slowest less fastest"
"""What ``benchmarks.training`` appends to a subject whose spread over rounds a row is."""


def is_of_steps(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether ``rows`` are of ``benchmarks.training``."""
    return any(row["subject"].endswith(SPREAD) for row in rows)


def step_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Milliseconds, their spread over rounds, peak memory, and both in steps of the baseline."""
    found: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        subject = row["subject"].removesuffix(SPREAD)
        metric = row["metric"] if subject == row["subject"] else "spread"
        found.setdefault((row["workload"], subject), {})[metric] = row

    def ratio(of: Mapping[str, Any]) -> str:
        return "-" if of["ratio"] is None else f"{of['ratio']:.2f}"

    return table(
        ["network", "objective", "ms", "spread", "ratio", "peak MiB", "ratio"],
        [
            [
                workload,
                subject,
                f"{of['time']['value']:.4g}",
                f"{of['spread']['value']:.3g}",
                ratio(of["time"]),
                f"{of['memory']['value']:,.0f}",
                ratio(of["memory"]),
            ]
            for (workload, subject), of in found.items()
        ],
    )

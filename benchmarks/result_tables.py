"""The rows of a benchmark's result as tables in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attack_client.report import Row, summarise
from attack_client.report.summary import COLUMNS
from benchmarks.map_theft_page import is_of_maps, map_parts
from benchmarks.markdown import folded, table
from benchmarks.steps_page import is_of_steps, step_table

__all__ = ["measured"]

LONGEST_SHOWN = 40
"""Rows of the longest table of every measured figure that the page holds."""

LEAKAGE = (
    ("defense", "defense"),
    ("labels", "labels"),
    ("budget", "budget"),
    ("queries", "queries paid"),
    ("seed", "seed"),
    ("victim_accuracy", "victim"),
    ("benign_accuracy", "benign"),
    ("benign_l1", "L1"),
    ("latency_p50_ms", "p50 ms"),
    ("latency_p99_ms", "p99 ms"),
    ("clone_accuracy", "clone"),
    ("relative_accuracy", "relative"),
    ("fidelity", "fidelity"),
    ("fidelity_served", "fidelity served"),
)
PERCENT = {
    "victim_accuracy", "benign_accuracy", "clone_accuracy", "fidelity", "fidelity_served",
}  # fmt: skip


def cell(key: str, value: object) -> str:
    """A figure as people read it: shares in percent, null as a dash."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{100 * value:.2f} %" if key in PERCENT else f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) and key != "seed" else str(value)


def leakage_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of a leakage report, columns that vary only."""
    columns = list(LEAKAGE)
    if len({row["attack"] for row in rows}) > 1:
        columns.insert(1, ("attack", "attack"))
    return table(
        [title for _, title in columns],
        [[cell(key, row[key]) for key, _ in columns] for row in rows],
    )


def every(title: str, content: str, rows: int, path: Path) -> str:
    """All rows of the result ``path`` as a table, or where they are if there are very many."""
    if rows <= LONGEST_SHOWN:
        return folded(title, content, rows)
    return f"{title} ({rows} rows): [{path.name}](../benchmarks/results/{path.name})."


def leakage(rows: Sequence[Mapping[str, Any]], path: Path) -> list[str]:
    """A line per defense at the largest budget, then every clone."""
    lines = summarise(Row.model_validate(row) for row in rows)
    shown = [line.cells() for line in lines]
    return [
        folded("By defense, at the largest budget", table(COLUMNS, shown), len(shown)),
        every("Every clone", leakage_table(rows), len(rows), path),
    ]


def speed_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of a benchmark."""
    return table(
        ["workload", "subject", "metric", "value", "unit", "ratio"],
        [
            [
                row["workload"],
                row["subject"],
                row["metric"],
                f"{row['value']:,.4g}" if row["value"] < 1000 else f"{row['value']:,.0f}",
                row["unit"],
                "-" if row["ratio"] is None else f"{row['ratio']:.2f} x {row['baseline']}",
            ]
            for row in rows
        ],
    )


def ratio_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line per subject of a benchmark of ratios: the median with its quartiles, and memory."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        found.setdefault((row["workload"], row["subject"]), {})[row["metric"]] = row

    def ratio(of: Mapping[str, Any]) -> str:
        if "ratio" not in of:
            return "-"
        low, high = of["ratio, first quartile"]["value"], of["ratio, third quartile"]["value"]
        return f"{of['ratio']['value']:.3f} ({low:.3f} to {high:.3f})"

    def memory(of: Mapping[str, Any]) -> str:
        return f"{of['memory']['value']:,.0f}" if "memory" in of else "-"

    return table(
        ["workload", "subject", "seconds", "ratio (quartiles)", "peak MiB"],
        [
            [workload, subject, f"{of['time']['value']:.4g}", ratio(of), memory(of)]
            for (workload, subject), of in found.items()
        ],
    )


def measured(rows: Sequence[Mapping[str, Any]], path: Path) -> list[str]:
    """The rows of the result ``path`` as tables."""
    if "clone_accuracy" in rows[0]:
        return leakage(rows, path)
    if is_of_steps(rows):
        return [step_table(rows)]
    if any(row["metric"] == "ratio" for row in rows):
        return [ratio_table(rows)]
    figures = every("Every figure", speed_table(rows), len(rows), path)
    return [*map_parts(rows), figures] if is_of_maps(rows) else [figures]

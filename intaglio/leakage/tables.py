"""The table that matters, as cells of text."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from attack_client.report.summary import milliseconds
from intaglio.leakage.strongest import Line, Strongest

__all__ = ["HEADS", "LATENCIES", "cells_of_line", "render", "told", "without_latency"]

HEADS = ("defense", "cells", "benign cost", "mean L1", "p50/p99 ms")

LATENCIES = "Latencies are comparable only where the machine did nothing else (--jobs 1)."
"""What a reader must know of the last of them."""


def cells_of_line(line: Line) -> tuple[str, ...]:
    """Text under ``HEADS``, then the strongest attack of each budget; a dash where unknown."""
    p50, p99 = line.latency_p50_ms, line.latency_p99_ms
    return (
        line.defense,
        f"{line.done}/{line.cells}",
        "-" if line.benign_cost is None else f"{100 * line.benign_cost:+.1f}",
        "-" if line.benign_l1 is None else f"{line.benign_l1:.3f}",
        "-" if p50 is None or p99 is None else f"{milliseconds(p50)}/{milliseconds(p99)}",
        *(told(found, budget) for budget, found in line.strongest.items()),
    )


def without_latency(lines: Sequence[Line], requests: int) -> str | None:
    """Of which defenses there is no latency though ``requests`` were to be timed; None if of all.

    Defenses that no cell was had of are not named.
    """
    lacking = [line.defense for line in lines if line.done and line.latency_p50_ms is None]
    if not requests or not lacking:
        return None
    return (
        f"There is no latency of {', '.join(lacking)}: none could be told when their cells were "
        "measured, for instance as too many of the timed requests had to be sent again. It is "
        "measured once more with their next cell."
    )


def told(found: Strongest | None, budget: int) -> str:
    """``94.2 (93.9-94.6) knockoff, soft``; the queries too where they are fewer than asked."""
    if found is None:
        return "-"
    spread = f" ({100 * found.low:.1f}-{100 * found.high:.1f})" if found.seeds > 1 else ""
    fewer = f", {found.budget:,} queries" if found.budget < budget else ""
    return f"{100 * found.accuracy:.1f}{spread} {found.attack}, {found.labels}{fewer}"


def render(lines: Sequence[Line], *, title: str) -> Table:
    """For a terminal."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    budgets = list(lines[0].strongest) if lines else []
    for number, head in enumerate((*HEADS, *(f"{budget:,} queries" for budget in budgets))):
        table.add_column(head, justify="left" if number in {0, *range(5, 99)} else "right")
    for line in lines:
        table.add_row(*cells_of_line(line), style="bold" if line.defense == "none" else None)
    return table

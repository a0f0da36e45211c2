"""Bar charts: of ratios on a logarithmic axis, of shares on a linear one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

__all__ = ["Bar", "draw_bars"]


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar.

    Attributes:
        name: what it stands for; one row of the chart.
        series: which colour it has; bars of one name stand side by side.
        value: its length, above 0.
    """

    name: str
    series: str
    value: float


def draw_bars(bars: Sequence[Bar], path: Path, *, axis: str, logarithmic: bool = True) -> None:
    """Save horizontal bars, each with its figure at its end; a logarithmic axis marks 1."""
    names = list(dict.fromkeys(bar.name for bar in bars))
    series = list(dict.fromkeys(bar.series for bar in bars))
    figure = Figure(figsize=(8.0, 1.1 + 0.42 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    thickness = 0.8 / len(series)
    for offset, one in enumerate(series):
        values = {bar.name: bar.value for bar in bars if bar.series == one}
        at = np.array([names.index(name) for name in values]) + (offset + 0.5) * thickness - 0.4
        drawn = axes.barh(at, list(values.values()), height=0.9 * thickness, label=one)
        axes.bar_label(drawn, fmt="%.3g", padding=2, fontsize=7)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    longest = max(bar.value for bar in bars)
    if logarithmic:
        axes.set_xscale("log")
        axes.axvline(1.0, color="grey", linewidth=0.8)
    axes.set_xlim(right=(1.5 if logarithmic else 1.35) * longest)
    axes.set_xlabel(axis)
    figure.legend(loc="outside lower center", ncols=len(series), fontsize=8, frameon=False)
    figure.savefig(path, dpi=150)

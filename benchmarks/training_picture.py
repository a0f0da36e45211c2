"""What a training step of each objective costs, as bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Bar", "draw_costs"]

COLOUR = "#0072B2"


@dataclass(frozen=True, slots=True)
class Bar:
    """A cost in plain steps.

    Attributes:
        name: of the objective.
        ratio: of medians.
        least: of the fastest round.
        most: of the slowest round.
    """

    name: str
    ratio: float
    least: float
    most: float


def draw_costs(panels: Mapping[str, Sequence[Bar]], path: Path) -> None:
    """One panel per workload, the spread of the rounds as a whisker on each bar.

    Args:
        panels: bars by workload.
        path: of the PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * len(panels) + 1.6, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    drawn = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (named, bars) in zip(drawn, panels.items(), strict=True):
        names = [bar.name for bar in bars]
        ratios = [bar.ratio for bar in bars]
        whiskers = [
            [max(0.0, bar.ratio - bar.least) for bar in bars],
            [max(0.0, bar.most - bar.ratio) for bar in bars],
        ]
        axes.barh(names, ratios, xerr=whiskers, color=COLOUR, ecolor="0.4", height=0.65)
        for place, bar in enumerate(bars):
            axes.annotate(
                f"{bar.ratio:.2f}",
                (max(bar.ratio, bar.most), place),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
            )
        axes.set_title(named)
        axes.set_xlabel("cost of a step, in plain steps")
        axes.margins(x=0.15)
        axes.spines[["top", "right"]].set_visible(False)
    drawn[0].invert_yaxis()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=150, metadata={"Software": None})

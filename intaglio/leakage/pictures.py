"""A heat map of defenses and attacks; and security against utility and latency."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attack_client.report.schema import Row
from intaglio.leakage.strongest import Line, Status

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "HEAT_MAP",
    "TRADE_OFF",
    "accuracy_of",
    "colour_of",
    "draw_heat_map",
    "draw_trade_off",
    "pareto",
    "write_picture",
]

HEAT_MAP, TRADE_OFF = "heat-map.png", "trade-off.png"

Point = tuple[str, float, float]
"""A name, and two figures of which less is better."""


def write_picture(figure: Figure, path: Path) -> None:
    """Write ``figure`` as a PNG file; the same figures give the same file."""
    temporary = path.with_name(path.name + ".tmp")
    figure.savefig(temporary, format="png", dpi=130, metadata={"Software": None})
    temporary.replace(path)


def draw_heat_map(rows: Sequence[Row], statuses: Sequence[Status]) -> Figure:
    """Mean clone accuracy of every defense under every attack and kind of labels.

    Each field is at the largest budget of its attack that is done. One that has no result is
    hatched: it was not measured, which is not the same as leaking nothing.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    defenses = list(dict.fromkeys(status.defense for status in statuses))
    columns = list(dict.fromkeys((status.attack, status.labels) for status in statuses))
    asked = {(status.defense, status.attack, status.labels) for status in statuses}
    size = (2.2 + 0.78 * len(columns), 1.9 + 0.4 * len(defenses))
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for y, defense in enumerate(defenses):
        for x, (attack, labels) in enumerate(columns):
            if (defense, attack, labels) not in asked:
                continue
            accuracy = accuracy_of(rows, defense, attack, labels)
            if accuracy is None:
                patch = Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, hatch="///", ec="0.75")
                axes.add_patch(patch)
                continue
            colour, ink = colour_of(accuracy)
            axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fc=colour, ec="white"))
            shown = f"{100 * accuracy:.1f}"
            axes.text(x, y, shown, ha="center", va="center", fontsize=8, color=ink)
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(len(defenses) - 0.5, -0.5)
    names = [f"{attack}, {labels}" for attack, labels in columns]
    axes.set_xticks(range(len(columns)), names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(defenses)), defenses)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_title("clone accuracy, %  (hatched: not measured)", fontsize=10)
    return figure


def draw_trade_off(lines: Sequence[Line]) -> Figure | None:
    """What a thief gets against what an honest caller pays: in accuracy, and in time.

    A full dot is on the Pareto front: no other defense is better in one and as good in the other.
    None where no defense has both figures.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    thefts = {line.defense: line.largest.accuracy for line in lines if line.largest is not None}
    cost = [
        (line.defense, 100 * line.benign_cost, 100 * thefts[line.defense])
        for line in lines
        if line.defense in thefts and line.benign_cost is not None
    ]
    time = [
        (line.defense, line.latency_p50_ms, 100 * thefts[line.defense])
        for line in lines
        if line.defense in thefts and line.latency_p50_ms is not None
    ]
    panels = [
        (points, label)
        for points, label in (
            (cost, "benign cost, points of accuracy"),
            (time, "median latency of an honest caller, ms"),
        )
        if points
    ]
    if not panels:
        return None
    figure = Figure(figsize=(5.2 * len(panels), 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)
    for axes, (points, label) in zip(grid[0], panels, strict=True):
        _scatter(axes, points)
        axes.set_xlabel(label)
    grid[0][0].set_ylabel("strongest clone's accuracy, %")
    return figure


def pareto(points: Sequence[Point]) -> frozenset[str]:
    """Names of those that no other is as good as in both figures and better in one."""
    return frozenset(
        name
        for name, x, y in points
        if not any(a <= x and b <= y and (a < x or b < y) for _, a, b in points)
    )


def _scatter(axes: Axes, points: Sequence[Point]) -> None:
    front = pareto(points)
    axes.grid(alpha=0.25)
    for name, x, y in points:
        full = name in front
        axes.plot(x, y, "o", color="#0072B2", markerfacecolor="#0072B2" if full else "white")
    edge = sorted((x, y) for name, x, y in points if name in front)
    axes.plot(
        *zip(*edge, strict=True), color="#0072B2", alpha=0.35, linewidth=1, drawstyle="steps-post"
    )
    _name(axes, points)
    axes.margins(x=0.18, y=0.1)


def _name(axes: Axes, points: Sequence[Point]) -> None:
    """Names beside their dots, those of dots on top of each other below each other."""
    span = max(y for *_, y in points) - min(y for *_, y in points) or 1.0
    reach = max(x for _, x, _ in points) - min(x for _, x, _ in points) or 1.0
    placed: list[tuple[float, float]] = []
    for name, x, y in sorted(points, key=lambda point: -point[2]):
        height = y
        while any(
            abs(height - other) < 0.045 * span and abs(x - beside) < 0.3 * reach
            for beside, other in placed
        ):
            height -= 0.045 * span
        placed.append((x, height))
        axes.annotate(
            name, (x, y), (x + 0.02 * reach, height), fontsize=7, va="center",
            arrowprops={"arrowstyle": "-", "color": "0.8", "lw": 0.5},
        )  # fmt: skip


def accuracy_of(rows: Sequence[Row], defense: str, attack: str, labels: str) -> float | None:
    """Mean over seeds at the largest budget that is done; of several clones, the best."""
    found = [
        row
        for row in rows
        if row.defense == defense
        and (row.attack == attack or row.attack.startswith(f"{attack}: "))
        and row.labels == labels
    ]
    largest = max((row.budget for row in found), default=0)
    best: dict[int, float] = {}
    for row in found:
        if row.budget == largest:
            best[row.seed] = max(best.get(row.seed, 0.0), row.clone_accuracy)
    return statistics.fmean(best.values()) if best else None


def colour_of(share: float) -> tuple[str, str]:
    """Background and ink of a field: pale where little leaks, dark where much does, in grey too."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    red, green, blue, _ = colour = colormaps["magma_r"](0.05 + 0.8 * share)
    dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.55
    return to_hex(colour), "#ffffff" if dark else "#000000"

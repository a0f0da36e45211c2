"""A heat map of defenses and attacks; and security against utility and latency."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attack_client.report.schema import Row
from intaglio.leakage.fields import columns_of, field_of
from intaglio.leakage.strongest import Line, Status
from intaglio.leakage.trade_off import Panel, Point, panels_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "HEAT_MAP",
    "TRADE_OFF",
    "colour_of",
    "draw_heat_map",
    "draw_trade_off",
    "write_picture",
]

HEAT_MAP, TRADE_OFF = "heat-map.png", "trade-off.png"


def write_picture(figure: Figure, path: Path) -> None:
    """Write ``figure`` as a PNG file; the same figures give the same file."""
    temporary = path.with_name(path.name + ".tmp")
    figure.savefig(temporary, format="png", dpi=130, metadata={"Software": None})
    temporary.replace(path)


def draw_heat_map(rows: Sequence[Row], statuses: Sequence[Status]) -> Figure:
    """Mean clone accuracy of every defense under every attack and kind of labels.

    Each attack is at its usual budgets, see ``columns_of``; a field at another is marked. One that
    has no result is hatched: it was not measured, which is not the same as leaking nothing.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    defenses = list(dict.fromkeys(status.defense for status in statuses))
    columns = columns_of(rows, statuses)
    size = (2.2 + 0.78 * len(columns), 1.9 + 0.4 * len(defenses))
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for y, defense in enumerate(defenses):
        for x, column in enumerate(columns):
            if defense not in column.asked:
                continue
            field = field_of(rows, defense, column)
            if field is None:
                patch = Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, hatch="///", ec="0.75")
                axes.add_patch(patch)
                continue
            colour, ink = colour_of(field.accuracy)
            axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fc=colour, ec="white"))
            axes.text(x, y, field.text, ha="center", va="center", fontsize=8, color=ink)
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(len(defenses) - 0.5, -0.5)
    names = [column.title for column in columns]
    axes.set_xticks(range(len(columns)), names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(defenses)), defenses)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_title(
        "clone accuracy, %  (hatched: not measured; *: with another number of queries)", fontsize=10
    )
    return figure


def draw_trade_off(lines: Sequence[Line]) -> Figure | None:
    """What a thief gets against what an honest caller pays: in accuracy, and in time.

    A full dot is on the Pareto front, see ``panels_of``. None where no defense has both figures.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = panels_of(lines)
    if not panels:
        return None
    figure = Figure(figsize=(5.2 * len(panels), 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)
    for axes, panel in zip(grid[0], panels, strict=True):
        _scatter(axes, panel)
        axes.set_xlabel(panel.across)
    grid[0][0].set_ylabel(f"strongest clone's accuracy, %, {panels[0].budget:,} queries at most")
    return figure


def _scatter(axes: Axes, panel: Panel) -> None:
    points, front = panel.points, panel.front
    axes.grid(alpha=0.25)
    for name, x, y in points:
        full = name in front
        axes.plot(x, y, "o", color="#0072B2", markerfacecolor="#0072B2" if full else "white")
    edge = sorted((x, y) for name, x, y in points if name in front)
    xs, ys = [x for x, _ in edge], [y for _, y in edge]
    axes.plot(xs, ys, color="#0072B2", alpha=0.35, linewidth=1, drawstyle="steps-post")
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


def colour_of(share: float) -> tuple[str, str]:
    """Background and ink of a field: pale where little leaks, dark where much does, in grey too."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    red, green, blue, _ = colour = colormaps["magma_r"](0.05 + 0.8 * share)
    dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.55
    return to_hex(colour), "#ffffff" if dark else "#000000"

"""``curves.png``: how much a thief gets for how many queries."""

from __future__ import annotations

import io
import itertools
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attack_client.errors import ReportError
from attack_client.report.schema import Row
from models.training.atomic import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_curves", "write_curves"]

# Okabe and Ito's colours, which people with any colour vision can tell apart; with the markers
# they stay apart in grey, too. Yellow is left out: it is too pale on white.
COLOURS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LABELS = ("soft", "hard")

LABEL = 0.15
"""Share of the axis of queries that a label takes."""

LONGEST = 40
"""Letters of a name that still stands on one line."""


def write_curves(rows: Sequence[Row], path: Path) -> None:
    """Draw ``rows`` into a PNG file.

    Raises:
        ReportError: there is nothing to draw.
    """
    figure = draw_curves(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = io.BytesIO()
    # No date and no program version: the same rows give the same file.
    figure.savefig(drawn, format="png", dpi=150, metadata={"Software": None})
    write_atomically(path, drawn.getvalue())


def draw_curves(rows: Sequence[Row]) -> Figure:
    """Clone accuracy above fidelity, soft labels beside hard ones, on shared axes.

    A line per defense, the mean over seeds, with a band from the worst to the best of them;
    queries on a logarithmic axis. The dashed line is the plain victim's
    accuracy. Fidelity is to the plain model; to what was served where no row knows better.

    Raises:
        ReportError: there is nothing to draw.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # A clone that asked nothing has no place on an axis of queries.
    rows = [row for row in rows if row.queries]
    if not rows:
        raise ReportError("there are no rows to draw curves of")
    if len({row.attack for row in rows}) > 1:
        alone = len({_name(row) for row in rows}) == 1  # then its name says nothing
        rows = [
            row.model_copy(
                update={"defense": row.attack if alone else f"{_name(row)}: {row.attack}"}
            )
            for row in rows
        ]
    columns = [kind for kind in LABELS if any(row.labels == kind for row in rows)]
    plain_known = any(row.fidelity is not None for row in rows)
    names = list(dict.fromkeys(_name(row) for row in rows))
    styles = dict(zip(names, _styles(), strict=False))

    width = 3.6 * len(columns) + 2.4
    figure = Figure(figsize=(width, 6.4), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(2, len(columns), sharex=True, sharey=True, squeeze=False)
    for column, kind in enumerate(columns):
        chosen = [row for row in rows if row.labels == kind]
        _panel(grid[0][column], chosen, styles, _accuracy)
        _panel(grid[1][column], chosen, styles, _fidelity if plain_known else _fidelity_served)
        plain = [row.victim_accuracy for row in rows if row.victim_accuracy is not None]
        if plain:
            accuracy = 100 * statistics.fmean(plain)
            grid[0][column].axhline(accuracy, color="0.5", linestyle="--", linewidth=1)
        grid[0][column].set_title(f"{kind} labels")
        grid[1][column].set_xlabel("queries paid")
    grid[0][0].set_ylabel("clone accuracy, %")
    grid[1][0].set_ylabel("fidelity, %" if plain_known else "fidelity to what was served, %")
    budgets = sorted({row.queries for row in rows})
    bottom = grid[1][0]
    bottom.set_xscale("log")
    bottom.set_xticks(_ticks(budgets), [f"{budget:,}" for budget in _ticks(budgets)])
    bottom.minorticks_off()
    bottom.set_ylim(0, 100)
    _legend(figure, names, styles)
    return figure


def _panel(
    axes: Axes,
    rows: Sequence[Row],
    styles: Mapping[str, tuple[str, str]],
    share_of: Callable[[Row], float | None],
) -> None:
    axes.grid(alpha=0.25)
    for name, (colour, marker) in styles.items():
        shares: dict[int, list[float]] = {}
        for row in rows:
            share = share_of(row)
            if _name(row) == name and share is not None:
                shares.setdefault(row.queries, []).append(100 * share)
        if not shares:
            continue
        budgets = sorted(shares)
        means = [statistics.fmean(shares[budget]) for budget in budgets]
        axes.plot(budgets, means, color=colour, marker=marker, markersize=5)
        if any(len(shares[budget]) > 1 for budget in budgets):
            low = [min(shares[budget]) for budget in budgets]
            high = [max(shares[budget]) for budget in budgets]
            axes.fill_between(budgets, low, high, color=colour, alpha=0.15, linewidth=0)


def _legend(figure: Figure, names: Sequence[str], styles: Mapping[str, tuple[str, str]]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=styles[name][0], marker=styles[name][1], label=_broken(name))
        for name in names
    ]
    handles.append(Line2D([], [], color="0.5", linestyle="--", linewidth=1, label="plain victim"))
    figure.legend(handles=handles, loc="outside right upper", frameon=False)


def _broken(name: str) -> str:
    """``name`` on several lines where it is long: a legend must leave room for what it explains."""
    return name if len(name) <= LONGEST else name.replace("+", "\n+")


def _styles() -> Iterator[tuple[str, str]]:
    """Forty-nine styles that differ, neighbours in both colour and marker; then again."""
    return itertools.cycle(
        (colour, MARKERS[(index + shift) % len(MARKERS)])
        for shift in range(len(MARKERS))
        for index, colour in enumerate(COLOURS)
    )


def _ticks(budgets: Sequence[int]) -> list[int]:
    """The budgets themselves, thinned to what is a factor 1.4 and a label apart, the last kept."""
    apart = max(1.4, (budgets[-1] / budgets[0]) ** LABEL)
    kept: list[int] = []
    for budget in reversed(budgets):
        if not kept or budget * apart <= kept[-1]:
            kept.append(budget)
    return kept[::-1]


def _name(row: Row) -> str:
    return row.defense if row.defense is not None else row.victim


def _accuracy(row: Row) -> float | None:
    return row.clone_accuracy


def _fidelity(row: Row) -> float | None:
    return row.fidelity


def _fidelity_served(row: Row) -> float | None:
    return row.fidelity_served

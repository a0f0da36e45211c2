"""What AST's alpha costs a teacher and what it leaves a student, beside what a plain one does."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["draw_alphas"]

COLOURS = ("#0072B2", "#D55E00")


def draw_alphas(
    curve: Mapping[float, Sequence[tuple[float, float]]],
    levels: Mapping[str, Sequence[float]],
    path: Path,
) -> None:
    """Save accuracy over alpha: lines of means over seeds, with a point for each seed.

    Args:
        curve: accuracies in [0, 1] of the teacher and of its student by seed, by alpha.
        levels: accuracies of what alpha says nothing of, by seed: dashed lines at their means.
        path: of the PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.grid(alpha=0.25)
    for index, (who, colour) in enumerate(
        zip(("AST teacher", "its student"), COLOURS, strict=True)
    ):
        means = [100 * statistics.fmean(pair[index] for pair in of) for of in curve.values()]
        axes.plot(list(curve), means, color=colour, marker="o", label=who)
        for alpha, of in curve.items():
            seeds = [100 * pair[index] for pair in of]
            axes.plot([alpha] * len(seeds), seeds, color=colour, marker=".", linestyle="none")
    for (who, shares), shade in zip(levels.items(), ("0.2", "0.45", "0.7"), strict=False):
        level = 100 * statistics.fmean(shares)
        axes.axhline(level, color=shade, linestyle="--", linewidth=1.0, label=who)
    axes.set_xlabel("alpha")
    axes.set_ylabel("accuracy, %")
    figure.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=150, metadata={"Software": None})

"""What each teacher is worth to a student who owns its training data, seed by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["draw_teachers"]

STYLES = {
    "teacher": ("0.35", "x"),
    "student of the labels alone": ("#0072B2", "o"),
    "student of the teacher": ("#D55E00", "D"),
}


def draw_teachers(found: Mapping[str, Mapping[str, Sequence[float]]], path: Path) -> None:
    """Accuracy on the test set, a point per seed.

    Args:
        found: by teacher, then by whose accuracy it is: the keys of ``STYLES``; in [0, 1].
        path: of the PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.grid(alpha=0.25, axis="y")
    for offset, (who, (colour, marker)) in zip((-0.2, 0.0, 0.2), STYLES.items(), strict=True):
        across = [
            place + offset for place, of in enumerate(found.values()) for _ in of.get(who, ())
        ]
        up = [100 * share for of in found.values() for share in of.get(who, ())]
        axes.plot(across, up, color=colour, marker=marker, linestyle="none", label=who, alpha=0.85)
    axes.set_xticks(range(len(found)), list(found))
    axes.set_xlabel("teacher")
    axes.set_ylabel("accuracy on the test set, %")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.13), ncols=3, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=150, metadata={"Software": None})

"""What InI costs honest callers against what it leaves a thief, beside its controls."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attack_client.report import Row

__all__ = ["draw_trade_off"]

COLOURS = ("#D55E00", "#0072B2", "#009E73")


def draw_trade_off(rows: Sequence[Row], curve: Sequence[Row], path: Path) -> None:
    """Clone accuracy over benign cost, soft labels beside hard ones, on the test set.

    Args:
        rows: of all victims; every clone of those without a factor is a grey point of its own.
        curve: of InI: the defense of each is ``FORM-xFACTOR``, and a line joins those of a form.
        path: of the PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.0, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, labels in zip(panels, ("soft", "hard"), strict=True):
        axes.grid(alpha=0.25)
        axes.set_title(f"{labels} labels")
        axes.set_xlabel("benign cost, points of accuracy")
        forms: dict[str, list[tuple[float, float, str]]] = {}
        for row in curve:
            form, _, factor = (row.defense or "").partition("-x")
            if row.labels == labels and row.benign_cost is not None:
                point = (100 * row.benign_cost, 100 * row.clone_accuracy, factor)
                forms.setdefault(form, []).append(point)
        for (form, points), colour in zip(forms.items(), COLOURS, strict=False):
            across, up = [x for x, _, _ in points], [y for _, y, _ in points]
            axes.plot(across, up, color=colour, marker="o", label=form)
            for x, y, factor in points:
                axes.annotate(f"x{factor}", (x, y), xytext=(4, 4), textcoords="offset points")
        named: set[str] = set()
        for row in rows:
            name = row.defense or ""
            if row.labels != labels or row.benign_cost is None or "-x" in name:
                continue
            x, y = 100 * row.benign_cost, 100 * row.clone_accuracy
            axes.plot(x, y, color="0.35", marker="x", linestyle="none")
            if name not in named:
                axes.annotate(
                    name, (x, y), xytext=(5, -9), textcoords="offset points", color="0.35"
                )
                named.add(name)
    panels[0].set_ylabel("clone accuracy, %")
    panels[0].set_ylim(0, 100)
    panels[0].legend(loc="lower left", frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=150, metadata={"Software": None})

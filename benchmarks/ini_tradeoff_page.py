"""Tables, sentences and picture of ``benchmarks.ini_tradeoff``."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.defended_page import spread
from benchmarks.envelope import Row
from benchmarks.ini_points import Point, Seen

__all__ = ["draw", "rows_of", "sentences", "tables_of"]

NONE, CONTROL = Point("none", 0.0), "outlier-exposure"
CALLED = {
    "none": "no defense",
    "outlier-exposure": "outlier exposure, by lambda",
    "am": "AM, by tau",
    "ini": "InI, the code's isolation, by factor",
    "ini-ce_vc": "InI, the paper's isolation, by factor",
    "ini-induction": "InI without isolation, by factor",
}
COLOURS = ("#444444", "#009E73", "#CC79A7", "#D55E00", "#0072B2", "#E69F00")

First = Mapping[Point, Seen]
Repeated = Mapping[Point, Sequence[Seen]]


def tables_of(first: First, repeated: Repeated) -> list[dict[str, Any]]:
    """The curves with one seed, and what was chosen of each with all of them."""
    return [
        {
            "title": "Chosen settings, mean and standard deviation over three seeds, in percent; "
            "label-only output leaves a thief of an undefended victim the hard clone of its row",
            "header": [
                "victim",
                "setting",
                "validation cost",
                "benign",
                "clone soft",
                "clone hard",
            ],
            "rows": [
                [
                    CALLED[point.curve],
                    "-" if point == NONE else f"{point.setting:g}",
                    spread(
                        plain.validation - own.validation
                        for plain, own in zip(repeated[NONE], seen, strict=True)
                    ),
                    spread(own.benign for own in seen),
                    spread(own.soft for own in seen),
                    spread(own.hard for own in seen),
                ]
                for point, seen in repeated.items()
            ],
        },
        {
            "title": "Every setting with the first seed, in percent",
            "header": ["victim", "setting", "benign cost", "clone soft", "clone hard"],
            "rows": [
                [
                    CALLED[point.curve],
                    "-" if point == NONE else f"{point.setting:g}",
                    spread([first[NONE].benign - seen.benign]),
                    spread([seen.soft]),
                    spread([seen.hard]),
                ]
                for point, seen in first.items()
            ],
        },
    ]


def rows_of(first: First, repeated: Repeated) -> Iterator[Row]:
    """Every figure, by point and seed."""
    found = {(point, 0): seen for point, seen in first.items()}
    found |= {(point, at): own for point, seen in repeated.items() for at, own in enumerate(seen)}
    for (point, seed), seen in found.items():
        for what in ("validation", "benign", "soft", "hard"):
            yield Row(
                "ini-tradeoff", f"{point.name}, seed {seed}", what, "share", getattr(seen, what),
                "accuracy",
            )  # fmt: skip


def sentences(repeated: Repeated) -> list[str]:
    """Whether InI beats its control, seed by seed."""
    by_curve = {point.curve: seen for point, seen in repeated.items()}
    control = by_curve[CONTROL]
    said = []
    for curve in ("ini", "ini-ce_vc", "ini-induction"):
        gaps = [
            100 * (_leak(own) - _leak(other)) for own, other in _pairs(by_curve[curve], control)
        ]
        if max(gaps) < 0.0:
            verdict = "less than its control with every seed"
        elif min(gaps) < 0.0:
            verdict = (
                f"{statistics.fmean(gaps):+.1f} on average, and neither less nor more with every "
                "seed, so that nothing is claimed"
            )
        else:
            verdict = "**no less than its control: the paper's claim does not carry over here**"
        name = CALLED[curve].removesuffix(", by factor")
        said.append(
            f"{name} leaves, in points of the better clone against outlier exposure "
            f"alone, by seed: {_listed(gaps)}; {verdict}."
        )
    return said


def draw(first: First, repeated: Repeated, path: Path) -> None:
    """Clone accuracy over benign cost: lines of one seed, and the chosen settings over seeds."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.0, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    curves = list(dict.fromkeys(point.curve for point in first))
    for axes, labels in zip(panels, ("soft", "hard"), strict=True):
        axes.grid(alpha=0.25)
        axes.set_title(f"clones of {labels} labels")
        axes.set_xlabel("benign cost on the test set, points (linear below 1, then logarithmic)")
        axes.set_xscale("symlog", linthresh=1.0)
        for curve, colour in zip(curves, COLOURS, strict=True):
            own = [(point, seen) for point, seen in first.items() if point.curve == curve]
            at = [
                (100 * (first[NONE].benign - seen.benign), 100 * getattr(seen, labels))
                for _, seen in own
            ]
            axes.plot(*zip(*at, strict=True), color=colour, marker="o", label=CALLED[curve])
            for (point, _), place in zip(own, at, strict=True):
                if point != NONE:
                    axes.annotate(
                        f"{point.setting:g}", place, color=colour, fontsize=8, xytext=(4, 4),
                        textcoords="offset points",
                    )  # fmt: skip
            for point, seen in repeated.items():
                if point.curve == curve:
                    _bar(axes, repeated[NONE], seen, labels, colour)
    panels[0].set_ylabel("clone accuracy, %")
    panels[0].set_ylim(0, 100)
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False,
        title="lines: one seed; bars: mean and standard deviation of the chosen setting",
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=130, metadata={"Software": None})


def _bar(axes: Any, plain: Sequence[Seen], seen: Sequence[Seen], labels: str, colour: str) -> None:
    costs = [100 * (other.benign - own.benign) for other, own in zip(plain, seen, strict=True)]
    clones = [100 * getattr(own, labels) for own in seen]
    axes.errorbar(
        statistics.fmean(costs), statistics.fmean(clones),
        xerr=statistics.stdev(costs), yerr=statistics.stdev(clones),
        color=colour, marker="s", markersize=7, capsize=3, alpha=0.7,
    )  # fmt: skip


def _leak(seen: Seen) -> float:
    return max(seen.soft, seen.hard)


def _pairs(own: Sequence[Seen], other: Sequence[Seen]) -> Iterator[tuple[Seen, Seen]]:
    return zip(own, other, strict=True)


def _listed(points: Sequence[float]) -> str:
    return ", ".join(f"{value:+.1f}" for value in points)

"""Each defense over its settings: what it costs an honest caller, and what it leaves a thief.

    python -m benchmarks.defense_sweeps [--out runs/sweeps]

The demo's job (digits, stolen with letters over HTTP, 6,000 queries) for every setting below, and a
picture for each defense under ``docs/images/defenses/``. A stopped run goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from matplotlib.figure import Figure
from rich.console import Console

from attack_client.report import Row, read_json
from benchmarks.envelope import IMAGES, RESULTS
from intaglio.demo import Demo
from intaglio.demo_defenses import ENSEMBLE, PAIR, PLAIN

BUDGET = 6000

Chain = Sequence[Mapping[str, Any]]


def settings(kind: str, option: str, values: Sequence[Any], **fixed: Any) -> dict[str, Chain]:
    """One link with each of ``values`` for ``option``, named after it."""
    return {
        f"{kind}-{option}-{value}": [{"kind": kind, **fixed, option: value}] for value in values
    }


# What is drawn as one picture: whose weights answer, and the settings.
SWEEPS: dict[str, tuple[str, dict[str, Chain]]] = {
    "top-k": (PLAIN, settings("top-k", "k", (1, 2, 3, 5))),
    "stingy": (PLAIN, settings("stingy", "ratio", (0.1, 0.2, 0.3, 0.5))),
    "rounding": (PLAIN, settings("rounding", "decimals", (1, 2, 3))),
    "reverse-sigmoid": (PLAIN, settings("reverse-sigmoid", "beta", (0.2, 0.5, 0.8, 1.0))),
    "mad": (PLAIN, settings("mad", "epsilon", (0.25, 0.5, 1.0, 1.5), oracle="argmax")),
    "mad-extreme": (PLAIN, {"mad-extreme-epsilon-1.0": [{"kind": "mad", "epsilon": 1.0}]}),
    "grad2": (PLAIN, settings("grad2", "epsilon", (0.25, 0.5, 1.0))),
    "modelguard-w": (PLAIN, settings("modelguard-w", "epsilon", (0.25, 0.5, 1.0))),
    "modelguard-s": (
        PLAIN,
        settings("modelguard-s", "epsilon", (0.25, 0.5, 1.0), codebook="memory"),
    ),
    "am": (PAIR, settings("am", "threshold", (0.3, 0.5, 0.7, 0.9, 0.99))),
    "edm": (ENSEMBLE, {"edm": []}),
}
CONTROLS: dict[str, tuple[str, Chain]] = {
    "none": (PLAIN, []),
    "label-only": (PLAIN, [{"kind": "label-only"}]),
}


def draw(kind: str, rows: Sequence[Row], path: Path) -> None:
    """Clone accuracy against the distortion of honest answers, a point for each setting."""
    _, chains = SWEEPS[kind]
    figure = Figure(figsize=(8.0, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for labels, marker, colour in (("soft", "o", "#0072B2"), ("hard", "s", "#D55E00")):
        points = {row.defense: row for row in rows if row.labels == labels}
        shown = [points[name] for name in chains]
        at = [(_known(row.benign_l1), row.clone_accuracy) for row in shown]
        axes.plot(*zip(*at, strict=True), marker=marker, color=colour, label=f"{labels} labels")
        undefended = points["none"].clone_accuracy
        axes.axhline(undefended, color=colour, linestyle=":", label=f"{labels}, undefended")
        if labels == "soft":
            for row, point in zip(shown, at, strict=True):
                setting = (row.defense or "").removeprefix(f"{kind}-").replace("-", " ")
                lost = 100 * (_known(row.victim_accuracy) - _known(row.benign_accuracy))
                cost = f"\n{-lost:+.1f} points" if abs(lost) >= 0.05 else ""
                axes.annotate(
                    setting + cost, point, fontsize=7, xytext=(4, 5), textcoords="offset points"
                )
    axes.set_ylim(0.0, 1.05)
    axes.set_xlabel("mean L1 distance of honest answers from the victim's (0 to 2)")
    axes.set_ylabel("clone accuracy")
    axes.set_title(f"{kind}: digits stolen with letters, {BUDGET:,} queries", fontsize=10)
    axes.margins(x=0.12)
    figure.legend(fontsize=7, loc="outside right upper")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, metadata={"Software": None})


def _known(figure: float | None) -> float:
    if figure is None:
        raise ValueError("what honest callers get was not measured")
    return figure


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/sweeps"))
def main(out: Path) -> None:
    """Steal behind every setting, keep the rows, draw the pictures."""
    defenses: dict[str, tuple[str, Chain]] = dict(CONTROLS)
    for bundle, chains in SWEEPS.values():
        defenses |= {name: (bundle, chain) for name, chain in chains.items()}
    command = ["python", "-m", "benchmarks.defense_sweeps"]
    job = Demo(out=out, defenses=defenses, splits=1, budgets=(BUDGET,), console=Console())
    report = job.run(command)
    RESULTS.mkdir(exist_ok=True)
    document = json.loads(report.read_text(encoding="utf-8"))
    kept = RESULTS / "defense-sweeps.json"
    kept.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    rows = read_json(kept).rows
    for kind in SWEEPS:
        draw(kind, rows, IMAGES / "defenses" / f"{kind}.png")


if __name__ == "__main__":
    main()

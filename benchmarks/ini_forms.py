"""Which of InI's forms matter: where its paper, its code and other readings part, one at a time.

    python -m benchmarks.ini_forms [--data-root DIR] [--out runs/ini-forms]

The images, strangers, pool and scale of ``benchmarks.ini_tradeoff``, with the 5-layer CNN as
victim, since LeNet has no batch norm. Every form is trained with every seed, and compared with the
code's form of the same seed; none is chosen. A stopped run goes on where it was.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import torch

from attack_client.report import describe_environment
from benchmarks.bars import Bar, draw_bars
from benchmarks.defended_page import spread
from benchmarks.envelope import IMAGES, RESULTS, Row
from benchmarks.ini_points import SCALE, Scale, Seen, measure
from intaglio.recipe import Recipe, load_recipe

__all__ = ["CODE", "FORMS", "SEEDS", "Form", "difference", "rows_of", "sentences", "table_of"]

NAME = "ini-forms"
SEEDS = (0, 1, 2)
NONE, CONTROL, CODE = "no defense", "outlier exposure", "the code's form"
EPSILON = 22.0
"""The published 1000 is for the mean over ResNet-18's 11.2 million parameters; there are 0.24."""
EPSILON_L2 = 0.036
"""A weight by which the norm counts as much as the mean times ``EPSILON`` if entries are normal."""

FORMS: Mapping[str, Mapping[str, str | float]] = {
    NONE: {},
    CONTROL: {},
    CODE: {},
    "isolation: the text's, ce_vc": {"objective.options.isolation": "ce_vc"},
    "no isolation": {"objective.options.delta": 0.0},
    "induction: the text's, kl": {"objective.options.induction": "kl"},
    "no induction": {"objective.options.gamma": 0.0},
    "gradient norm: the text's, l2": {
        "objective.options.gradient_norm": "l2",
        "objective.options.epsilon": EPSILON_L2,
    },
    "no gradient norm": {"objective.options.epsilon": 0.0},
    "losses: PCGrad, as the authors": {"plan.combiner": "pcgrad"},
    "strangers' batch norm: concatenated": {"objective.options.ood_bn": "concatenated"},
    "strangers' batch norm: frozen": {"objective.options.ood_bn": "frozen"},
}
"""Changes to the code's form, whose losses are summed and whose batch norms are separate."""

NOTHING = "no difference that holds with every seed"

Repeated = Mapping[str, Sequence[Seen]]


@dataclass(frozen=True, slots=True)
class Form:
    """A victim: InI in one of its ``FORMS``, or one of the two it is held against."""

    curve: str

    @property
    def name(self) -> str:
        """Of its figures, and of its weights."""
        return f"form-{list(FORMS).index(self.curve)}"

    bundle = name
    threshold = None

    def recipe(self, seed: int, scale: Scale) -> Recipe:
        """How it is trained."""
        shipped = {NONE: "mnist-lenet", CONTROL: "mnist-lenet-oe"}.get(
            self.curve, "mnist-lenet-ini"
        )
        changes: dict[str, str | float] = {
            "name": self.bundle, "version": 1, "architecture.name": "cnn5", "plan.seed": seed,
            "plan.epochs": scale.epochs, "plan.batch_size": scale.batch_size,
            "data.train_limit": scale.train_limit,
        }  # fmt: skip
        if self.curve != NONE:
            changes["data.ood"] = "kmnist_t10k"
        if shipped == "mnist-lenet-ini":
            changes["objective.options.epsilon"] = EPSILON
        changes |= FORMS[self.curve]
        return load_recipe(shipped, [f"{key}={value}" for key, value in changes.items()])


def difference(own: Sequence[Seen], other: Sequence[Seen], what: str) -> list[float]:
    """Points by which ``own`` lies above ``other``, seed by seed."""
    return [100 * (getattr(a, what) - getattr(b, what)) for a, b in zip(own, other, strict=True)]


def table_of(repeated: Repeated) -> dict[str, Any]:
    """A line per form."""
    return {
        "title": "Every form, mean and standard deviation over three seeds, in percent",
        "header": ["victim", "benign", "clone soft", "clone hard", "better clone, less the code's"],
        "rows": [
            [
                name,
                *(
                    spread(getattr(each, what) for each in seen)
                    for what in ("benign", "soft", "hard")
                ),
                "-" if name == CODE else _listed(_leak(seen, repeated[CODE])),
            ]
            for name, seen in repeated.items()
        ],
    }


def sentences(repeated: Repeated) -> list[str]:
    """Which forms differ from the code's in one direction with every seed, in cost or in leak."""
    said = []
    for name, seen in repeated.items():
        if name in (NONE, CONTROL, CODE):
            continue
        cost = [-value for value in difference(seen, repeated[CODE], "benign")]
        leak = _leak(seen, repeated[CODE])
        found = [
            f"{more if values[0] > 0 else less} with every seed ({_listed(values)} points)"
            for values, more, less in (
                (cost, "costs honest callers more", "costs honest callers less"),
                (leak, "leaves a thief more", "leaves a thief less"),
            )
            if min(values) > 0 or max(values) < 0
        ]
        said.append(f"{name}: {' and '.join(found) or NOTHING}.")
    return said


def rows_of(repeated: Repeated) -> Iterator[Row]:
    """Every figure, by form and seed."""
    for name, seen in repeated.items():
        for seed, each in enumerate(seen):
            for what in ("validation", "benign", "soft", "hard"):
                yield Row(
                    NAME, f"{name}, seed {seed}", what, "share", getattr(each, what), "accuracy"
                )


def _leak(own: Sequence[Seen], other: Sequence[Seen]) -> list[float]:
    return [
        100 * (max(a.soft, a.hard) - max(b.soft, b.hard)) for a, b in zip(own, other, strict=True)
    ]


def _listed(points: Sequence[float]) -> str:
    return ", ".join(f"{value:+.1f}" for value in points)


@click.command()
@click.option("--data-root", type=click.Path(path_type=Path), envvar="INTAGLIO_DATA_ROOT")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/ini-forms"))
def main(data_root: Path | None, out: Path) -> None:
    """Train, steal, report."""
    torch.set_num_threads(1)
    found: dict[str, list[Seen]] = {name: [] for name in FORMS}
    for seed in SEEDS:
        for name in FORMS:
            seen = measure(Form(name), seed, out=out, data_root=data_root)
            click.echo(f"{name}, seed {seed}: {seen}")
            found[name].append(seen)
    document = {
        "schema": 1,
        "command": ["python", "-m", "benchmarks.ini_forms"],
        "environment": describe_environment(),
        "notes": [
            f"Scale: {json.dumps(asdict(SCALE))}; victim: cnn5, clones: LeNet.",
            "Differences are by seed, from the code's form; PCGrad averages over the losses, which "
            "the others add up.",
            *sentences(found),
        ],
        "tables": [table_of(found)],
        "rows": [asdict(row) for row in rows_of(found)],
    }
    kept = RESULTS / f"{NAME}.json"
    kept.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    bars = [
        Bar(name, f"{labels} clone", 100 * statistics.fmean(getattr(each, labels) for each in seen))
        for name, seen in found.items()
        for labels in ("soft", "hard")
    ]
    axis = "clone accuracy, %, mean of three seeds"
    draw_bars(bars, IMAGES / f"{NAME}.png", axis=axis, logarithmic=False)
    click.echo(f"wrote {kept}")


if __name__ == "__main__":
    main()

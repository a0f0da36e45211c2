"""What ``benchmarks.defended_training`` trains, serves and steals, at which scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from intaglio.recipe import shipped_recipes

__all__ = ["FORMS", "PIECES", "SCALES", "WEIGHTS", "Piece", "Scale", "available", "ini_at"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much of everything; None is all of it, or what the recipe or the attack says.

    Attributes:
        train_limit: training images of a victim.
        epochs: of a victim, by family.
        batch_size: of a victim.
        queries: of KnockoffNets, and of distillation.
        clone_epochs: passes over what was stolen.
        alphas: of distillation.
        temperatures: of distillation.
    """

    train_limit: int | None
    epochs: Mapping[str, int | None]
    batch_size: int | None
    queries: Mapping[str, int | None]
    clone_epochs: int | None
    alphas: str
    temperatures: str

    def of_victim(self, family: str) -> list[str]:
        """Changes to a recipe, as ``--set`` takes them."""
        changes = {
            "data.train_limit": self.train_limit,
            "plan.epochs": self.epochs[family],
            "plan.batch_size": self.batch_size,
        }
        return [f"{key}={value}" for key, value in changes.items() if value is not None]


SCALES = {
    # About an hour on one slow core: a tenth of the training images, a fifth of the queries.
    "small": Scale(
        train_limit=6000,
        epochs={"mnist": 5, "fashion": 8},
        batch_size=64,
        queries={"mnist": 10_000, "fashion": 6000},
        clone_epochs=6,
        alphas="0.1,0.9",
        temperatures="4",
    ),
    "full": Scale(
        train_limit=None,
        epochs={"mnist": None, "fashion": None},
        batch_size=None,
        queries={"mnist": 50_000, "fashion": None},
        clone_epochs=None,
        alphas="0.1,0.5,0.9,1",
        temperatures="1,4,20",
    ),
}

WEIGHTS = (0.1, 0.3, 1.0)
"""Factors of InI's three weights along the trade-off curve."""

FORMS = {"ini": "kl_cv", "ini-ce_vc": "ce_vc"}
"""InI's isolation loss: the published code's, and the paper's equation 4."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One victim: how it is trained, and how served.

    Attributes:
        family: ``mnist`` (stolen with Fashion-MNIST) or ``fashion`` (distilled with its own data).
        defense: name in reports.
        recipe: shipped.
        changes: to the recipe, as ``--set`` takes them.
        chain: links before its answers leave.
        labels: of the clones.
    """

    family: str
    defense: str
    recipe: str
    changes: Sequence[str] = ()
    chain: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    labels: str = "soft,hard"

    @property
    def name(self) -> str:
        """On the command line, and of its served model."""
        return f"{self.family}-{self.defense}"

    @property
    def bundle(self) -> str:
        """NAME/VERSION of its weights; pieces of one bundle share it."""
        return f"{self.family}-lenet/1" if self.plain else f"{self.name}/1"

    @property
    def plain(self) -> bool:
        """Whether its weights are those of the undefended victim."""
        return self.recipe == f"{self.family}-lenet"

    def train(self, models: Path, scale: Scale, seed: int) -> list[str]:
        """The command that trains it, without ``intaglio``."""
        name, version = self.bundle.split("/")
        changes = [
            *scale.of_victim(self.family), f"plan.seed={seed}", *self.changes,
            f"name={name}", f"version={version}",
        ]  # fmt: skip
        sets = [part for change in changes for part in ("--set", change)]
        return ["train", self.recipe, "--out", str(models), *sets]

    def attack(self, models: Path, out: Path, scale: Scale, seed: int, own: Path) -> list[str]:
        """The command that steals it, without ``intaglio`` and ``--url``.

        ``own`` holds the images that Fashion-MNIST's victims were trained on.
        """
        queries = scale.queries[self.family]
        kind = ["knockoff", "--labels", self.labels, "--pool", "fashion_mnist", "--test", "mnist"]
        if self.family == "fashion":
            kind = ["distil", "--alpha", scale.alphas, "--temperature", scale.temperatures]
            kind += ["--pool", f"npz:{own}", "--test", "fashion_mnist"]
        return [
            "attack", *kind, "--model", self.name,
            "--budget", "all" if queries is None else str(queries),
            *(() if scale.clone_epochs is None else ("--epochs", str(scale.clone_epochs))),
            "--clone", "lenet", "--reference", str(models / f"{self.family}-lenet" / "1"),
            "--defense", self.defense, "--seed", str(seed), "--latency-requests", "0",
            "--out", str(out),
        ]  # fmt: skip


def ini_at(name: str, weight: float) -> Piece:
    """InI in the form ``name``, with all three weights of its recipe times ``weight``."""
    options = {"gamma": 0.3 * weight, "delta": weight, "epsilon": 40.0 * weight}
    changes = [f"objective.options.{key}={value:g}" for key, value in options.items()]
    return Piece(
        family="mnist",
        defense=f"{name}-x{weight:g}",
        recipe="mnist-lenet-ini",
        changes=(*changes, f"objective.options.isolation={FORMS[name]}", "data.ood=kmnist_t10k"),
    )


PIECES = (
    Piece(family="mnist", defense="none", recipe="mnist-lenet"),
    Piece(
        family="mnist",
        defense="label-only",
        recipe="mnist-lenet",
        chain=({"kind": "label-only"},),
        labels="hard",
    ),
    Piece(
        family="mnist",
        defense="outlier-exposure",
        recipe="mnist-lenet-oe",
        changes=("data.ood=kmnist_t10k",),
    ),
    Piece(
        family="mnist",
        defense="am",
        recipe="mnist-lenet-am",
        changes=("data.ood=kmnist_t10k",),
        chain=({"kind": "am", "threshold": 0.5},),
    ),
    Piece(
        family="mnist",
        defense="edm",
        recipe="mnist-lenet-edm",
        changes=("data.ood=kmnist_t10k", "objective.ensemble.hash.data=kmnist_t10k"),
    ),
    Piece(family="fashion", defense="none", recipe="fashion-lenet"),
    Piece(family="fashion", defense="nasty", recipe="fashion-lenet-nasty"),
    Piece(family="fashion", defense="stt", recipe="fashion-lenet-stt"),
    Piece(family="fashion", defense="ast", recipe="fashion-lenet-ast"),
)
"""All but InI, whose weights are found first; a family's undefended victim leads it."""


def available() -> tuple[Piece, ...]:
    """Those of ``PIECES`` whose recipe this version ships."""
    shipped = shipped_recipes()
    return tuple(piece for piece in PIECES if piece.recipe in shipped)

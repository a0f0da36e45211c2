"""The points of InI's trade-off: how each victim is trained and served, and what is stolen.

All of it happens in this process, and answers leave on the server's grid. What came of a point is a
JSON file of its own, so that a stopped run goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attack_client.clone import CloneRecipe, train_clone
from attack_client.predictions import agreement, hard_labels, predict
from defenses.adaptive_misinformation import AdaptiveMisinformation
from defenses.chain import Chain
from defenses.contract import Defense, Queries
from intaglio.recipe import Recipe, load_recipe
from intaglio.training import train_recipe
from intaglio.training_data import Prepared, prepare
from models.bundle import Bundle, open_bundle
from models.datasets import load
from models.preprocessing import fit_arrays
from models.simplex import GRID, round_to_grid
from models.training.data import to_unit
from models.training.evaluate import accuracy, probabilities

__all__ = ["CURVES", "FORMS", "SCALE", "Point", "Scale", "Seen", "Victim", "measure"]

ROWS = 512


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of everything.

    Attributes:
        train_limit: training images of a victim.
        epochs: of a victim.
        batch_size: of a victim.
        queries: images of the pool that are asked about.
        clone_epochs: passes over what was stolen.
    """

    train_limit: int = 5000
    epochs: int = 4
    batch_size: int = 64
    queries: int = 8000
    clone_epochs: int = 5


SCALE = Scale()


class Victim(Protocol):
    """What is trained, served and stolen."""

    @property
    def threshold(self) -> float | None:
        """Of AM's switch; None for what is served as it is."""

    @property
    def name(self) -> str:
        """Of its figures."""

    @property
    def bundle(self) -> str:
        """NAME of its weights."""

    def recipe(self, seed: int, scale: Scale) -> Recipe:
        """How it is trained."""


@dataclass(frozen=True, slots=True)
class Point:
    """A victim.

    Attributes:
        curve: what is varied along it.
        setting: how far.
    """

    curve: str
    setting: float

    @property
    def name(self) -> str:
        """For instance ``ini-x0.3``."""
        return f"{self.curve}-x{self.setting:g}"

    @property
    def threshold(self) -> float | None:
        """The setting, where that is AM's."""
        return self.setting if self.curve == "am" else None

    @property
    def bundle(self) -> str:
        """NAME of its weights: what is only served in another way has those of others."""
        return "am" if self.curve == "am" else self.name

    def recipe(self, seed: int, scale: Scale) -> Recipe:
        """How it is trained."""
        shipped, options = _trained(self)
        changes = {
            "name": self.bundle, "version": 1, "plan.seed": seed, "plan.epochs": scale.epochs,
            "plan.batch_size": scale.batch_size, "data.train_limit": scale.train_limit,
            **{f"objective.options.{key}": value for key, value in options.items()},
        }  # fmt: skip
        if shipped != "mnist-lenet":
            changes["data.ood"] = "kmnist_t10k"
        return load_recipe(shipped, [f"{key}={value}" for key, value in changes.items()])


@dataclass(frozen=True, slots=True)
class Seen:
    """What a point came to with one seed; all are shares.

    Attributes:
        validation: accuracy of what is served on the images that the recipes hold out.
        benign: the same on the test set.
        soft: accuracy on the test set of the clone that learned probabilities.
        hard: of the one that learned their argmax: what is left behind label-only output.
    """

    validation: float
    benign: float
    soft: float
    hard: float


FORMS: Mapping[str, Mapping[str, float | str]] = {
    "ini": {"isolation": "kl_cv"},
    "ini-ce_vc": {"isolation": "ce_vc"},
    "ini-induction": {"delta": 0.0},
}
"""Of InI, whose settings are factors of gamma 0.3, delta 1 and epsilon 40: the isolation loss of
the code, that of the paper, no isolation at all."""

CURVES: Mapping[str, tuple[float, ...]] = {
    "none": (0.0,),
    "ini": (0.3, 1.0, 3.0),
    "outlier-exposure": (1.0, 4.0),
    "ini-ce_vc": (0.3, 0.6, 1.0),
    "am": (0.5, 0.99),
    "ini-induction": (1.0,),
}
"""Settings by curve: factors, the weight lambda of outlier exposure, the threshold tau of AM."""


def _trained(point: Point) -> tuple[str, Mapping[str, float | str]]:
    if point.curve == "none":
        return "mnist-lenet", {}
    if point.curve == "am":
        return "mnist-lenet-am", {}
    if point.curve == "outlier-exposure":
        return "mnist-lenet-oe", {"lambda_oe": point.setting}
    weights = {"gamma": 0.3, "delta": 1.0, "epsilon": 40.0}
    scaled = {key: round(weight * point.setting, 6) for key, weight in weights.items()}
    return "mnist-lenet-ini", {**scaled, **FORMS[point.curve]}


def measure(
    point: Victim, seed: int, *, out: Path, data_root: Path | None, scale: Scale = SCALE
) -> Seen:
    """Train ``point``, or take the weights that lie under ``out``; steal it with both labels."""
    place, recipe = out / f"seed-{seed}", point.recipe(seed, scale)
    trained = _digest(recipe.model_dump_json())
    kept = place / f"{point.name}-{_digest(trained, repr(scale), repr(point.threshold))}.json"
    if kept.is_file():
        return Seen(**json.loads(kept.read_text(encoding="utf-8")))
    models = place / "models" / trained
    path = models / point.bundle / "1"
    if not path.is_dir():
        train_recipe(recipe, out=models, data_root=data_root)
    bundle = open_bundle(path)
    prepared, pool = _data(data_root)
    shown = pool[np.random.default_rng(seed).permutation(len(pool))[: scale.queries]]
    answers = _served(point, bundle, torch.from_numpy(shown)).numpy()
    images, truth = (part.numpy() for part in prepared.test)
    clones = [
        agreement(
            predict(
                train_clone(
                    shown,
                    targets,
                    classes=answers.shape[1],
                    recipe=CloneRecipe(architecture="lenet", epochs=scale.clone_epochs),
                    seed=seed,
                ),
                images,
            ),
            truth,
        )
        for targets in (answers, hard_labels(answers))
    ]
    honest = [
        accuracy(_served(point, bundle, some), right)
        for some, right in (prepared.validation, prepared.test)
    ]
    seen = Seen(*honest, *clones)
    kept.write_text(json.dumps(asdict(seen)) + "\n", encoding="utf-8")
    return seen


def _digest(*parts: str) -> str:
    """Eight hexadecimal digits: what was measured otherwise is not taken for this."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


@cache
def _data(data_root: Path | None) -> tuple[Prepared, NDArray[np.uint8]]:
    """Images to judge by, the same for every point, and the pool."""
    prepared = prepare(load_recipe("mnist-lenet"), data_root=data_root, needs_ood=False)
    pool = load("fashion_mnist", root=data_root).train_images
    return prepared, fit_arrays(pool, prepared.input)


def _served(point: Victim, bundle: Bundle, images: Tensor) -> Tensor:
    """What leaves ``(N, K)``, as from the server: canonical, and of AM what its switch let pass."""
    said = round_to_grid(probabilities(bundle.load("victim"), images), GRID)
    links: list[Defense] = []
    if point.threshold is not None:
        links.append(
            AdaptiveMisinformation(
                misinformation=bundle.load("misinformation"), threshold=point.threshold
            )
        )
    chain, left = Chain(links), []
    for start in range(0, len(images), ROWS):
        part, victim = to_unit(images[start : start + ROWS]), said[start : start + ROWS]
        count = len(part)
        queries = Queries(
            images=part,
            seeds=torch.zeros(count, dtype=torch.int64),
            explain=torch.zeros(count, dtype=torch.bool),
            victim=victim,
        )
        with torch.inference_mode():
            outcome = chain.run(queries)
        if bool(outcome.failed.any()):
            raise RuntimeError(f"{point.name}: {int(outcome.failed.sum())} answers broke a promise")
        left.append(outcome.answers.probabilities.clone())
    return torch.cat(left)

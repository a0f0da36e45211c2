"""A recipe tried out on noise: everything is built, one step is taken, nothing is kept."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from intaglio.hash_network import build_hash, hash_choice
from intaglio.networks import build_network, normalisation_of
from intaglio.objectives import Trainable, trainable_of
from intaglio.outlook import Expected, Outlook, expected, outlook_of
from intaglio.recipe import Recipe
from intaglio.training_data import Prepared, check_strangers, input_of
from models.datasets.declared import Declared
from models.training.cross_entropy import CrossEntropy
from models.training.data import TrainingData
from models.training.loop import fit
from models.training.plan import Constant
from models.training.suitability import check_machine
from models.training.team import ALONE

__all__ = ["Rehearsal", "dry_run"]

SAMPLES = 2
"""Images of the one step: the fewest over which a network can normalise."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What was tried.

    Attributes:
        outlook: what the whole training would be.
        parameters: number of them in each network, by role; networks that are not trained too.
        data: the datasets, by their key in the recipe.
        losses: of the one step, by name.
    """

    outlook: Outlook
    parameters: Mapping[str, int]
    data: Mapping[str, tuple[str, Declared]]
    losses: Mapping[str, float]


def dry_run(
    recipe: Recipe,
    *,
    data_root: Path | None = None,
    device: torch.device | str = "cpu",
    allow_factories: Collection[str] = (),
) -> Rehearsal:
    """Build what ``recipe`` trains and take one step of its plan on two random images.

    Datasets that are not there are taken to be what their authors say they are.

    Args:
        recipe: the recipe.
        data_root: where datasets are looked for; nothing is downloaded.
        device: where to take the step.
        allow_factories: the user's own architectures that the recipe may name.

    Raises:
        RecipeError: the recipe cannot be trained; names the key.
        ModelsError: its data, networks, objective, plan and device do not go together.
    """
    trainable = trainable_of(recipe)
    check_strangers(recipe, needs_ood=trainable.objective.needs_ood)
    look = cache(expected)
    outlook = outlook_of(recipe, data_root=data_root, look=look)
    data = _data(recipe, trainable, data_root, look)
    prepared = _noise(recipe, trainable, data["data.train"][1])
    normalisation = normalisation_of(recipe, prepared)
    roles = (*trainable.trained(recipe.objective), *trainable.untrained)
    networks = {
        role: build_network(recipe, prepared, normalisation, index, allow_factories)
        for index, role in enumerate((*roles, *(("base",) if trainable.base else ())))
    }
    if trainable.ensemble:
        choice, name = hash_choice(recipe)
        known = data["objective.ensemble.hash.data"][1]
        networks["hash"], _ = build_hash(
            choice,
            name,
            known.classes,
            prepared.input,
            allow_factories=allow_factories,
        )
        check_machine(
            CrossEntropy(networks["hash"]), known.train, choice.plan, torch.device(device), ALONE
        )
    parameters = {r: sum(p.numel() for p in n.parameters()) for r, n in networks.items()}
    objective = trainable.build(networks, recipe.objective)
    check_machine(objective, outlook.images, recipe.plan, torch.device(device), ALONE)
    once = recipe.plan.model_copy(
        update={
            "epochs": 1,
            "batch_size": SAMPLES,
            "schedule": Constant(),
            "selection": "last",
            "early_stop": None,
        }
    )
    fitted = fit(objective, prepared.training, once, device=device)
    return Rehearsal(outlook, parameters, data, fitted.history[0].losses)


def _data(
    recipe: Recipe, trainable: Trainable, data_root: Path | None, look: Expected
) -> dict[str, tuple[str, Declared]]:
    wanted = {"data.train": recipe.data.train, "data.ood": recipe.data.ood}
    if trainable.ensemble:
        wanted["objective.ensemble.hash.data"] = hash_choice(recipe)[1]
    return {
        key: (
            name,
            look(key, name, data_root=data_root, split_seed=recipe.data.split_seed),
        )
        for key, name in wanted.items()
        if name is not None
    }


def _noise(recipe: Recipe, trainable: Trainable, known: Declared) -> Prepared:
    spec = input_of(recipe, known.shape)
    draws = torch.Generator().manual_seed(recipe.plan.seed)

    def images() -> Tensor:
        shape = (SAMPLES, *spec.shape)
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=draws)

    labels = torch.randint(0, known.classes, (SAMPLES,), generator=draws)
    objective = trainable.objective
    training = TrainingData(
        images(),
        labels,
        ood=images() if objective.needs_ood else None,
        paired=images() if objective.needs_paired else None,
    )
    return Prepared(
        input=spec,
        labels=tuple(map(str, range(known.classes))),
        training=training,
        validation=(images(), labels),
        test=(images(), labels),
    )

"""The networks that a recipe starts from."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import nn

from intaglio.recipe import Recipe
from intaglio.training_data import Prepared
from models.architectures import build
from models.card import Normalisation
from models.normalisation import preset, preset_for
from models.training.order import derive_seed

__all__ = ["build_network", "normalisation_of"]


def normalisation_of(recipe: Recipe, prepared: Prepared) -> Normalisation:
    """What the recipe says, or else what is usual for its data.

    Raises:
        ArchitectureError: there is no such preset, or it is for another number of channels.
    """
    channels = prepared.input.channels
    given = recipe.normalisation
    if isinstance(given, Normalisation):
        return given
    return preset(given or preset_for(recipe.data.train, channels), channels)


def build_network(
    recipe: Recipe,
    prepared: Prepared,
    normalisation: Normalisation,
    index: int,
    allow_factories: Collection[str],
) -> nn.Module:
    """Network number ``index`` of a recipe, with first weights that depend on it and the seed.

    Raises:
        ArchitectureError: there is no such architecture, or it cannot be built like that.
        FactoryRefused: it is not allowed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(recipe.plan.seed, "initialisation", index))
        return build(
            recipe.architecture.name,
            channels=prepared.input.channels,
            size=(prepared.input.height, prepared.input.width),
            outputs=len(prepared.labels),
            normalisation=normalisation,
            arguments=recipe.architecture.arguments,
            allow_factories=allow_factories,
        )

"""How much a trained victim's answers depend on each of its layers, for its card."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from defenses.deep_defense_layers import sensitivity
from intaglio.recipe import Recipe
from intaglio.training_data import Prepared
from models.card import Sensitivity
from models.training.data import to_unit

__all__ = ["measure"]

SAMPLES = 128


def measure(
    recipe: Recipe,
    prepared: Prepared,
    networks: Mapping[str, nn.Module],
    device: torch.device | str,
) -> Sensitivity | None:
    """The sensitivities of the victim's layers, on the first validation images.

    Args:
        recipe: names the dataset.
        prepared: its images.
        networks: by role, trained; the mode of the victim is put back.
        device: where they are.

    Returns:
        None where there is no victim, or none of its layers can be changed.
    """
    victim = networks.get("victim")
    if victim is None:
        return None
    images = prepared.validation[0][:SAMPLES]
    was_training = victim.training
    victim.eval()
    try:
        layers = sensitivity(victim, to_unit(images, device))
    finally:
        victim.train(was_training)
    if not layers:
        return None
    return Sensitivity(dataset=recipe.data.train, samples=len(images), layers=layers)

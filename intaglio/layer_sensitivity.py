"""How much a trained victim's answers depend on each of its layers, for its card."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from defenses.deep_defense_layers import sensitivity
from models.card import Sensitivity
from models.training.data import to_unit

__all__ = ["SAMPLES", "measure"]

SAMPLES = 128
"""Images that are looked at."""


def measure(
    networks: Mapping[str, nn.Module],
    dataset: str,
    images: Tensor,
    device: torch.device | str,
) -> Sensitivity | None:
    """The sensitivities of the victim's layers, on the first of ``images``.

    Args:
        networks: by role, trained; the mode of the victim is put back.
        dataset: what the images are of.
        images: ``(N, C, H, W)`` uint8, none of them of a test set.
        device: where the networks are.

    Returns:
        None where there is no victim, or none of its layers can be changed.
    """
    victim = networks.get("victim")
    if victim is None:
        return None
    images = images[:SAMPLES]
    was_training = victim.training
    victim.eval()
    try:
        layers = sensitivity(victim, to_unit(images, device))
    finally:
        victim.train(was_training)
    if not layers:
        return None
    return Sensitivity(dataset=dataset, samples=len(images), layers=layers)

"""Normalisation as the first layer, so that everything outside thinks in pixels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.card import Normalisation

__all__ = ["Normalised"]


class Normalised(nn.Module):
    """``network((x - mean) / std)`` for images ``x`` ``(B, C, H, W)`` in [0, 1].

    Mean and standard deviation belong to the card, not to the weights: they are buffers that
    follow the module from device to device but are not part of its state dict.

    Args:
        network: maps normalised images ``(B, C, H, W)`` to logits ``(B, K)``.
        normalisation: one mean and one standard deviation per channel.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, normalisation: Normalisation) -> None:
        super().__init__()
        self.network = network
        for name, values in (("mean", normalisation.mean), ("std", normalisation.std)):
            buffer = torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1)
            self.register_buffer(name, buffer, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, K)`` of ``images`` ``(B, C, H, W)`` in [0, 1]."""
        logits: Tensor = self.network((images - self.mean) / self.std)
        return logits

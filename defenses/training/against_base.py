"""What objectives have in common that train a victim against a frozen network of its own kind."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.training.objective import Objective

__all__ = ["AgainstBase"]


class AgainstBase(Objective):
    """Trains a victim beside a plainly trained base, which is consulted and never changed.

    Args:
        victim: the network to train.
        base: the plain model of the same architecture. It is put into evaluation mode, and its
            parameters stop asking for gradients.
    """

    def __init__(self, victim: nn.Module, base: nn.Module) -> None:
        self._victim = victim
        self._base = base.eval().requires_grad_(False)

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """``victim``."""
        return {"victim": self._victim}

    @property
    def frozen(self) -> Mapping[str, nn.Module]:
        """``base``."""
        return {"base": self._base}

    def said_by_base(self, images: Tensor) -> Tensor:
        """The logits ``(B, K)`` of the base, without a graph."""
        with torch.no_grad():
            logits: Tensor = self._base(images)
        return logits

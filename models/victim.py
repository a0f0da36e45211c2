"""The victim: what is served, as everybody above sees it.

One network, and an ensemble that routes each query to one member, look the same.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

__all__ = ["SingleVictim", "Victim"]


class Victim(Protocol):
    """A classifier over images ``(B, C, H, W)`` in [0, 1] with K classes."""

    def logits(self, images: Tensor) -> Tensor:
        """Logits ``(B, K)`` float32 of ``images``; a pure function of each row."""
        ...

    def route(self, images: Tensor) -> Tensor:
        """Which member answers each row: ``(B,)`` int64; all zeros for a single network."""
        ...

    def module(self, member: int) -> nn.Module:
        """The loaded instance of ``member``, never a copy: interpreters work on this one."""
        ...


class SingleVictim:
    """A victim of one network, held in evaluation mode with gradients off."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network.eval().requires_grad_(False)

    def logits(self, images: Tensor) -> Tensor:
        """Logits ``(B, K)`` of ``images`` ``(B, C, H, W)`` in [0, 1]."""
        logits: Tensor = self._network(images)
        return logits

    def route(self, images: Tensor) -> Tensor:
        """Zeros ``(B,)``: there is one member."""
        return torch.zeros(images.shape[0], dtype=torch.int64, device=images.device)

    def module(self, member: int) -> nn.Module:
        """The network.

        Raises:
            IndexError: for any member but 0.
        """
        if member != 0:
            raise IndexError(f"a single network has member 0 only, not {member}")
        return self._network

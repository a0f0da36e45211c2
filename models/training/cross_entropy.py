"""The plain objective: cross-entropy with labels or with soft targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from models.training.objective import Batch, Objective

__all__ = ["CrossEntropy"]


class CrossEntropy(Objective):
    """``-sum_k t_k log softmax(z)_k``, the mean over the batch.

    With soft targets this is the Kullback-Leibler divergence up to the entropy of the targets,
    hence the same gradient (Orekondy et al. train their clones so).

    Args:
        network: the network to train.
        role: its name in a bundle.
    """

    kind: ClassVar[str] = "plain"
    mixed_precision: ClassVar[bool] = True
    mean_over_samples: ClassVar[bool] = True

    def __init__(self, network: nn.Module, role: str = "victim") -> None:
        self._network = network
        self._role = role

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """The one network."""
        return {self._role: self._network}

    def losses(self, batch: Batch) -> Mapping[str, Tensor]:
        """``cross_entropy`` of ``batch``."""
        logits = self._network(batch.images)
        return {"cross_entropy": functional.cross_entropy(logits, batch.targets)}

"""The optimiser that a plan names."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from models.training.plan import Adam, Optimiser, Sgd

__all__ = ["build_optimiser"]


def build_optimiser(choice: Optimiser, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser of ``choice`` over ``parameters``, in one group."""
    match choice:
        case Sgd(lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=decay):
            return torch.optim.SGD(
                parameters, lr, momentum=momentum, nesterov=nesterov, weight_decay=decay
            )
        case Adam(lr=lr, weight_decay=decay):
            return torch.optim.Adam(parameters, lr, weight_decay=decay)

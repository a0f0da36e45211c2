"""How several losses become one gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

__all__ = ["COMBINERS", "Combiner", "Sum"]


class Combiner(Protocol):
    """Turns named losses into gradients."""

    def backward(self, losses: Mapping[str, Tensor], parameters: Sequence[nn.Parameter]) -> None:
        """Fill ``.grad`` of ``parameters``, which is None on entry."""
        ...


class Sum:
    """The gradient of the sum: losses come already weighted."""

    def backward(self, losses: Mapping[str, Tensor], parameters: Sequence[nn.Parameter]) -> None:
        """One backward pass through the sum of ``losses``."""
        del parameters  # autograd finds them
        torch.autograd.backward(torch.stack(list(losses.values())).sum())


COMBINERS: Mapping[str, type[Combiner]] = {"sum": Sum}
"""Combiners by their name in a plan."""

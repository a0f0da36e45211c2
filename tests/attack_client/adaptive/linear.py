"""A clone that can be the toy victim exactly."""

from __future__ import annotations

from math import prod

from torch import nn


def linear(*, channels: int, size: tuple[int, int], outputs: int) -> nn.Module:
    """One layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * prod(size), outputs))

"""The form in which maps leave: the same scale for every image, on a grid."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["MAP_GRID", "canonical_maps"]

MAP_GRID = 1000
"""Steps from the least to the greatest value of a map."""

FLAT = 1e-6
"""Range of a map, relative to its largest magnitude, below which it is float noise."""


def canonical_maps(maps: Tensor) -> Tensor:
    """Maps stretched to [0, 1], each by itself, in steps of 0.001; a flat map becomes all zeros.

    How large a gradient is tells about the weights and nothing about the image, so the scale does
    not leave. Floats differ a little with the size of a batch; the grid is far coarser than that,
    and finer than a picture can show.

    Args:
        maps: ``(B, h, w)``, finite or not.

    Returns:
        ``(B, h, w)`` float32; a map that is not finite stays so.
    """
    exact = maps.to(torch.float64).flatten(1)
    least = exact.amin(dim=1, keepdim=True)
    span = exact.amax(dim=1, keepdim=True) - least
    # An infinite map is as far from flat as can be, although its range is not above its magnitude.
    flat = span.isfinite() & (span <= FLAT * exact.abs().amax(dim=1, keepdim=True))
    scaled = (exact - least) / torch.where(flat, torch.ones_like(span), span)
    steps = torch.where(flat, torch.zeros_like(scaled), (scaled * MAP_GRID).round())
    return (steps / MAP_GRID).to(torch.float32).reshape(maps.shape)

"""Which part of an image a map is laid over.

A convolution without padding keeps away from the border: the first position of its map stands for a
place some pixels inside, and a map stretched over the whole image would point beside what it means.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.explain.tap import Tap

__all__ = ["Extent", "extent_of_layer"]


LINES = 32
"""Images in one forward pass."""


class Extent(NamedTuple):
    """The rectangle that a map covers, in pixels of the image from its upper left corner."""

    top: float
    left: float
    bottom: float
    right: float


@torch.no_grad()
def extent_of_layer(network: nn.Module, layer: nn.Module, shape: tuple[int, int, int]) -> Extent:
    """What the positions of ``layer`` stand for in images ``(C, H, W)``.

    Found by asking: NaN in one line of pixels makes NaN of every position that sees the line. Where
    too few positions see less than the whole image to tell, the map covers all of it.
    """
    tap = Tap(network, layer)
    device = next(network.parameters()).device
    spans = []
    for axis in (2, 3):
        length = shape[axis - 1]
        border = _seen(tap, shape, axis, [0, length - 1], device)
        inside = np.logical_not(border[0] | border[1])
        if inside.sum() < 2:
            spans.append((0.0, float(length)))
            continue
        lines = [
            list(range(start, min(start + LINES, length))) for start in range(0, length, LINES)
        ]
        seen = np.concatenate([_seen(tap, shape, axis, some, device) for some in lines])
        spans.append(_span(seen, inside))
    (top, bottom), (left, right) = spans
    return Extent(top, left, bottom, right)


def _seen(
    tap: Tap, shape: tuple[int, int, int], axis: int, lines: list[int], device: torch.device
) -> NDArray[np.bool_]:
    """Which positions along ``axis`` see which of ``lines``: ``(lines, positions)``."""
    images = torch.zeros(len(lines), *shape, device=device)
    for image, line in zip(images, lines, strict=True):
        image.select(axis - 1, line).fill_(torch.nan)
    activations = tap(images)[1].isnan().any(dim=1, keepdim=True)
    found: NDArray[np.bool_] = activations.any(dim=5 - axis).flatten(1).cpu().numpy()
    return found


def _span(seen: NDArray[np.bool_], inside: NDArray[np.bool_]) -> tuple[float, float]:
    """First and last edge of a map of which the positions ``inside`` see no border."""
    length, positions = seen.shape
    first = seen.argmax(axis=0)
    last = length - 1 - seen[::-1].argmax(axis=0)
    whole = np.flatnonzero(inside & seen.any(axis=0))
    if len(whole) < 2:
        return 0.0, float(length)
    # Positions that see the border may be cut short there; the others lie on a line.
    stride, offset = np.polyfit(whole, (first + last + 1)[whole] / 2.0, 1)
    first_edge, last_edge = offset - stride / 2, offset + (positions - 0.5) * stride
    return round(float(first_edge), 6), round(float(last_edge), 6)

"""An attribution map as a picture: heat laid over what the model was shown."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.explain import Extent

__all__ = ["heat_map"]

SHORTEST_SIDE = 224
"""Pixels; smaller pictures are enlarged by a whole factor, so that a pixel stays a square."""

LONGEST_SIDE = 1024
"""Pixels beyond which nothing is enlarged: a strip of one row would become a wall."""

RAMP = np.array([[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]])
"""From cold to hot, as bright as they are hot: told apart in print and by the colour-blind."""

HEAT = 0.75
"""Share of the picture that the hottest place hides; the coldest hides none."""


def heat_map(
    image: NDArray[np.uint8], attributions: NDArray[np.float32], extent: Extent | None = None
) -> bytes:
    """A PNG of ``attributions`` over ``image``.

    Args:
        image: ``(C, H, W)`` uint8 with one or three channels, as the model was shown it.
        attributions: ``(h, w)`` in [0, 1]; enlarged bilinearly.
        extent: the part of the image that they cover; None: all of it. Elsewhere it is cold.
    """
    height, width = image.shape[1:]
    factor = -(-SHORTEST_SIDE // min(height, width))
    factor = max(1, min(factor, LONGEST_SIDE // max(height, width)))
    size = (width * factor, height * factor)
    pixels = np.ascontiguousarray(np.broadcast_to(image, (3, height, width)).transpose(1, 2, 0))
    shown = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST))
    top, left, bottom, right = extent or Extent(0.0, 0.0, height, width)
    down = _weights(attributions.shape[0], height, factor, top, bottom)
    across = _weights(attributions.shape[1], width, factor, left, right)
    heat = (down @ attributions.astype(np.float64) @ across.T).clip(0.0, 1.0)
    stops = np.linspace(0.0, 1.0, len(RAMP))
    colours = np.stack([np.interp(heat, stops, RAMP[:, channel]) for channel in range(3)], axis=2)
    cover = HEAT * heat[:, :, None]
    blended = (1.0 - cover) * shown + cover * colours
    into = io.BytesIO()
    Image.fromarray(blended.round().astype(np.uint8)).save(into, "PNG")
    return into.getvalue()


def _weights(
    positions: int, length: int, factor: int, first: float, last: float
) -> NDArray[np.float64]:
    """How much each position counts at each pixel of an enlarged side: ``(pixels, positions)``."""
    pixels = (np.arange(length * factor) + 0.5) / factor
    places = (pixels - first) / (last - first) * positions - 0.5
    weights = np.stack(
        [np.interp(places, np.arange(positions), row) for row in np.eye(positions)], axis=1
    )
    covered = (pixels > first) & (pixels < last)
    return np.where(covered[:, None], weights, 0.0)

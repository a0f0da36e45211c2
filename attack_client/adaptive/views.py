"""Views of images: turned, moved, scaled, sheared, recoloured; exact to the bit wherever made.

A theft that goes on after a kill makes its views again, and they must be the ones on disk. So the
draws of an image depend on a seed and its position alone, and the arithmetic is elementwise in
float64: neither depends on which images are made together.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Style", "view"]

Style = Literal["affine", "shift", "shift-flip"]

DEGREES, TRANSLATE, SCALE, SHEAR, JITTER = 15.0, 0.1, (0.9, 1.0), 0.1, 0.1
REACH = 2
DRAWS = 10

# Luma and the two axes of colour (ITU-R BT.601).
YIQ = np.array(
    [[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]]
)
RGB = np.linalg.inv(YIQ)


def view(
    images: NDArray[np.uint8], style: Style, *, seed: int, start: int, number: int
) -> NDArray[np.uint8]:
    """One view of each of ``images`` ``(m, C, H, W)``.

    Args:
        images: uint8.
        style: ``affine`` turns by up to 15 degrees, moves by up to a tenth of the size, scales by
            0.9 to 1, shears by up to a tenth of a degree and changes brightness, contrast,
            saturation and hue by up to a tenth each, nearest pixel, black outside; ``shift`` moves
            by up to two pixels and no more; ``shift-flip`` mirrors half of them, too.
        seed: of the draws.
        start: position of the first image.
        number: which view of an image.

    Returns:
        ``(m, C, H, W)`` uint8.
    """
    draws = np.stack(
        [
            np.random.default_rng((seed, number, start + offset)).uniform(-1.0, 1.0, size=DRAWS)
            for offset in range(len(images))
        ]
    )
    if style == "affine":
        return _recoloured(_moved(images, *_affine(draws, *images.shape[2:])), draws[:, 6:])
    height, width = images.shape[2:]
    rows, columns = np.arange(height)[:, np.newaxis], np.arange(width)
    down, right = np.rint(draws[:, :2].T * (REACH + 0.4999)).astype(np.int64)[:, :, None, None]
    source = columns - right
    if style == "shift-flip":
        mirrored = (draws[:, 2] > 0)[:, None, None]
        source = np.where(mirrored, width - 1 - source, source)
    shape = (len(images), height, width)
    return _moved(images, np.broadcast_to(rows - down, shape), np.broadcast_to(source, shape))


def _affine(
    draws: NDArray[np.float64], height: int, width: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each pixel of each view comes from: rows and columns ``(m, H, W)``."""
    angle = np.radians(DEGREES) * draws[:, 0]
    scale = SCALE[0] + (SCALE[1] - SCALE[0]) * (draws[:, 3] + 1.0) / 2.0
    shear = np.tan(np.radians(SHEAR) * draws[:, 4])
    down, right = TRANSLATE * height * draws[:, 1], TRANSLATE * width * draws[:, 2]
    cosine, sine = (each[:, None, None] for each in (np.cos(angle), np.sin(angle)))
    scale, shear, down, right = (each[:, None, None] for each in (scale, shear, down, right))
    y = np.arange(height)[None, :, None] - (height - 1) / 2.0 - down
    x = np.arange(width)[None, None, :] - (width - 1) / 2.0 - right
    turned_x, turned_y = (cosine * x + sine * y) / scale, (cosine * y - sine * x) / scale
    turned_x = turned_x - shear * turned_y
    rows = np.rint(turned_y + (height - 1) / 2.0).astype(np.int64)
    columns = np.rint(turned_x + (width - 1) / 2.0).astype(np.int64)
    return rows, columns


def _moved(
    images: NDArray[np.uint8], rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """Pixels from ``rows`` and ``columns`` ``(m, H, W)``; black where that is outside."""
    height, width = images.shape[2:]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    number = np.arange(len(images))[:, None, None]
    found = images.transpose(0, 2, 3, 1)[
        number, rows.clip(0, height - 1), columns.clip(0, width - 1)
    ]
    return np.ascontiguousarray((found * inside[..., None]).transpose(0, 3, 1, 2))


def _recoloured(images: NDArray[np.uint8], draws: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Brightness, contrast and, of three channels, saturation and hue, by ``(m, 4)`` draws."""
    brightness, contrast, saturation = (
        1.0 + JITTER * draws[:, each, None, None] for each in range(3)
    )
    planes = images.astype(np.float64) * brightness[:, None]
    # Sums of whole numbers are exact, in whatever order they are added up.
    means = images.sum(axis=(2, 3), dtype=np.int64)[:, :, None, None] / images[0, 0].size
    if images.shape[1] != 3:
        middle = brightness[:, None] * means.mean(axis=1, keepdims=True)
        planes = middle + contrast[:, None] * (planes - middle)
        return _whole(planes)
    # The hue draw is a share of the full circle, as in the usual colour jitter.
    turn = 2.0 * math.pi * JITTER * draws[:, 3, None, None]
    luma, first, second = (_mixed(row, planes) for row in YIQ)
    middle = brightness * _mixed(YIQ[0], means)
    luma = middle + contrast * (luma - middle)
    colour = saturation * contrast
    chroma = (
        colour * (np.cos(turn) * first - np.sin(turn) * second),
        colour * (np.sin(turn) * first + np.cos(turn) * second),
    )
    mixed = np.stack([_mixed(row, np.stack([luma, *chroma], axis=1)) for row in RGB], axis=1)
    return _whole(mixed)


def _whole(planes: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.asarray(np.rint(planes).clip(0, 255), dtype=np.uint8)


def _mixed(row: NDArray[np.float64], planes: NDArray[np.float64]) -> NDArray[np.float64]:
    """A weighted sum of three planes, written out: no sum whose order a library chooses."""
    return np.asarray(row[0] * planes[:, 0] + row[1] * planes[:, 1] + row[2] * planes[:, 2])

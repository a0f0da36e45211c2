"""Any image becomes what a model is shown: mode, orientation, size.

What happens here is part of the model's card, so that the server, the attack client and the
training data all mean the same by "an image of this model".
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from models.card import InputSpec
from models.errors import ImageError

__all__ = ["fit_arrays", "fit_image"]

FILTERS: Mapping[str, Image.Resampling] = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

# ITU-R 601-2 luma in 16-bit fixed point, as Pillow has it: both paths give the same grey.
LUMA = np.array([19595, 38470, 7471], dtype=np.uint32)


def fit_image(image: Image.Image, spec: InputSpec) -> NDArray[np.uint8]:
    """One decoded image as a model is shown it.

    The EXIF orientation is applied; transparency is laid over ``spec.background``; 16-bit grey
    is scaled to 8 bits; colours become grey by ITU-R 601-2 or grey becomes RGB. An image that
    already has the mode and the size passes through bit for bit. Of an animation the frame that
    is current.

    Args:
        image: any mode but floating point; decoded here if it was opened lazily.
        spec: of the model.

    Returns:
        ``(C, H, W)`` uint8, C-contiguous.

    Raises:
        ImageError: the data is truncated or corrupt, or the mode has no defined range.
    """
    try:
        upright = ImageOps.exif_transpose(image)
        flat = _flatten(upright, spec)
        fitted = _fit(flat, spec)
    except (OSError, ValueError, SyntaxError, EOFError, KeyError, TypeError, struct.error) as error:
        raise ImageError(f"the image cannot be decoded: {error}") from error
    pixels = np.asarray(fitted, dtype=np.uint8)
    if spec.channels == 1:
        return pixels[np.newaxis].copy()
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def fit_arrays(images: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.uint8]:
    """A pool of decoded images as a model is shown them.

    Gives exactly what ``fit_image`` gives for each image; a pool that already fits is returned
    as it is, not copied.

    Args:
        images: ``(N, C, H, W)`` uint8, C is 1 or 3.
        spec: of the model.

    Returns:
        ``(N, spec.channels, spec.height, spec.width)`` uint8.

    Raises:
        ImageError: ``images`` has another shape or type.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] not in {1, 3}:
        raise ImageError(
            "images must be uint8 of shape (N, 1 or 3, H, W), not "
            f"{images.dtype} of shape {tuple(images.shape)}"
        )
    converted = _convert_channels(images, spec.channels)
    if converted.shape[1:] == spec.shape:
        return converted
    if 0 in converted.shape[2:]:
        raise ImageError(f"images must not be empty, these have shape {tuple(images.shape)}")
    fitted = np.empty((len(images), *spec.shape), dtype=np.uint8)
    for row, pixels in zip(fitted, converted, strict=True):
        if spec.channels == 1:
            row[0] = np.asarray(_fit(Image.fromarray(pixels[0]), spec))
        else:
            picture = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
            row[...] = np.asarray(_fit(picture, spec)).transpose(2, 0, 1)
    return fitted


def _convert_channels(images: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    if images.shape[1] == channels:
        return images
    if channels == 3:
        return np.repeat(images, 3, axis=1)
    grey = np.empty((len(images), 1, *images.shape[2:]), dtype=np.uint8)
    for row, pixels in zip(grey, images, strict=True):
        row[0] = (np.tensordot(LUMA, pixels.astype(np.uint32), axes=1) + 0x8000) >> 16
    return grey


def _flatten(image: Image.Image, spec: InputSpec) -> Image.Image:
    mode = "L" if spec.channels == 1 else "RGB"
    if image.mode == "F":
        raise ValueError("floating-point images have no defined range")
    if image.mode == "I" or image.mode.startswith("I;16"):
        image = _eight_bits(image)
    elif image.mode == "La":
        image = image.convert("LA")
    elif image.mode == "RGBa":
        image = image.convert("RGBA")
    if image.has_transparency_data:
        over = Image.new("RGBA", image.size, (spec.background,) * 3 + (255,))
        over.alpha_composite(image.convert("RGBA"))
        image = over.convert("RGB")
    if image.mode == "LAB":
        raise ValueError("LAB images are not supported")
    return image if image.mode == mode else image.convert(mode)


def _eight_bits(image: Image.Image) -> Image.Image:
    # Pillow's own conversion clips at 255 instead of scaling.
    wide = np.asarray(image).astype(np.int64).clip(0, 65535)
    return Image.fromarray(((wide * 255 + 32767) // 65535).astype(np.uint8))


def _fit(image: Image.Image, spec: InputSpec) -> Image.Image:
    size = (spec.width, spec.height)
    if image.size == size:
        return image
    method = FILTERS[spec.resize]
    if spec.fit == "stretch":
        return image.resize(size, method)
    if spec.fit == "crop":
        return ImageOps.fit(image, size, method, centering=(0.5, 0.5))
    scale = min(size[0] / image.width, size[1] / image.height)
    inner = (
        min(size[0], max(1, round(image.width * scale))),
        min(size[1], max(1, round(image.height * scale))),
    )
    background = spec.background if image.mode == "L" else (spec.background,) * 3
    padded = Image.new(image.mode, size, background)
    padded.paste(
        image.resize(inner, method), ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2)
    )
    return padded

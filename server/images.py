"""Encoded images to what a model is shown: limits first, then decoding."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from models.card import InputSpec
from models.errors import ImageError
from models.preprocessing import fit_image
from server.errors import BadRequest, ServiceError, TooLarge

__all__ = ["FORMATS", "MAX_SCANS", "EncodedImage", "check_pixels", "decode_image"]

logger = logging.getLogger(__name__)

FORMATS = ("PNG", "JPEG", "WEBP")
"""The only decoders that a caller's bytes may reach; which one, the bytes say."""

MAX_SCANS = 100
"""Passes that a JPEG may make over its picture. Encoders write about ten; a file may hold hundreds
of thousands of ten bytes each, and a decoder walks the whole picture for every one of them."""

MAX_PROFILES = 8
"""Colour profiles in a PNG, which may have one; every one unpacks to a megabyte."""

MAX_PIECES = 100_000
"""Reads that a decoder may need: a file of many small or empty pieces is taken apart one by one."""

_SCAN = b"\xff\xda"
"""Begins a scan; compressed pixels never look so, for they have 0 after every 255."""

_PROFILE = b"iCCP"
"""Names a colour profile; four such bytes by chance are rare, nine times four are not met."""


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """One image as it came, and what to call it in a message (``images[3]``)."""

    where: str
    content: bytes


class _Content(io.BytesIO):
    """The bytes of an image, in no more than ``MAX_PIECES`` pieces."""

    def __init__(self, image: EncodedImage) -> None:
        super().__init__(image.content)
        self._where = image.where
        self._pieces = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self._pieces += 1
        if self._pieces > MAX_PIECES:
            raise BadRequest(f"{self._where} is made of more than {MAX_PIECES} pieces")
        return super().read(size)


def check_pixels(images: Iterable[EncodedImage], *, max_pixels: int, most: int) -> None:
    """Refuse a request by the sizes in the headers of its images, none of which is decoded.

    Args:
        images: of one request.
        max_pixels: of one of them.
        most: of all of them together.

    Raises:
        BadRequest: one is not a PNG, JPEG or WebP image.
        TooLarge: too many pixels.
    """
    pixels = 0
    for image in images:
        with _opened(image, max_pixels) as opened:
            pixels += opened.width * opened.height
        if pixels > most:
            raise TooLarge(
                f"the images of the request have more than {most} pixels together "
                "(limits.max_request_pixels)"
            )


def decode_image(image: EncodedImage, spec: InputSpec, *, max_pixels: int) -> NDArray[np.uint8]:
    """Decode one image and make it fit ``spec``; of an animation, the first frame.

    The size is read from the header: a picture that would be too large is never decoded.

    Returns:
        ``(C, H, W)`` uint8.

    Raises:
        BadRequest: not a whole PNG, JPEG or WebP image, or one that is laborious for its size.
        TooLarge: more than ``max_pixels`` pixels.
    """
    with _opened(image, max_pixels) as opened:
        opened.load()
        return fit_image(opened, spec)


@contextmanager
def _opened(image: EncodedImage, max_pixels: int) -> Iterator[Image.Image]:
    """``image`` with its header read; what is wrong with it there or in the block is its fault."""
    too_large = TooLarge(
        f"{image.where} has more than {max_pixels} pixels (limits.max_image_pixels)"
    )
    if image.content.count(_PROFILE) > MAX_PROFILES:
        raise BadRequest(f"{image.where} has more than {MAX_PROFILES} colour profiles")
    try:
        with Image.open(_Content(image), formats=FORMATS) as opened:
            if opened.width * opened.height > max_pixels:
                raise too_large
            if isinstance(opened, JpegImageFile) and image.content.count(_SCAN) > MAX_SCANS:
                raise BadRequest(f"{image.where} has more than {MAX_SCANS} scans")
            yield opened
    except ServiceError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise too_large from None
    except UnidentifiedImageError:
        raise BadRequest(f"{image.where} is not a PNG, JPEG or WebP image") from None
    except ImageError as error:
        raise BadRequest(f"{image.where}: {error}") from None
    except MemoryError:
        raise
    except Exception as error:
        # Decoders meet arbitrary bytes and raise whatever they like (OSError, SyntaxError,
        # struct.error, zlib.error, ...). The bytes are at fault, not the server.
        logger.debug("%s does not decode", image.where, exc_info=error)
        raise BadRequest(f"{image.where} is damaged or cut short") from None

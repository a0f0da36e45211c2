"""Encoded images to what a model is shown: limits first, then decoding, off the event loop."""

from __future__ import annotations

import asyncio
import io
import logging
import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from models.card import InputSpec
from models.errors import ImageError
from models.preprocessing import fit_image
from server.errors import BadRequest, QueueFull, ServiceError, TooLarge
from server.settings import Settings

__all__ = ["FORMATS", "EncodedImage", "ImageDecoder", "build_decoder", "decode_image"]

logger = logging.getLogger(__name__)

FORMATS = ("PNG", "JPEG", "WEBP")
"""The only decoders that a caller's bytes may reach; which one, the bytes say."""

MAX_SCANS = 100
"""Passes that a JPEG may make over its picture. Encoders write about ten; a file may hold hundreds
of thousands of ten bytes each, and a decoder walks the whole picture for every one of them."""

_SCAN = b"\xff\xda"
"""Begins a scan; compressed pixels never look so, for they have 0 after every 255."""


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """One image as it came, and what to call it in a message (``images[3]``)."""

    where: str
    content: bytes


def decode_image(image: EncodedImage, spec: InputSpec, *, max_pixels: int) -> NDArray[np.uint8]:
    """Decode one image and make it fit ``spec``; of an animation, the first frame.

    The size is read from the header: a picture that would be too large is never decoded.

    Returns:
        ``(C, H, W)`` uint8.

    Raises:
        BadRequest: not a whole PNG, JPEG or WebP image, or a JPEG of more than ``MAX_SCANS`` scans.
        TooLarge: more than ``max_pixels`` pixels.
    """
    too_large = TooLarge(
        f"{image.where} has more than {max_pixels} pixels (limits.max_image_pixels)"
    )
    try:
        with Image.open(io.BytesIO(image.content), formats=FORMATS) as opened:
            if opened.width * opened.height > max_pixels:
                raise too_large
            if isinstance(opened, JpegImageFile) and image.content.count(_SCAN) > MAX_SCANS:
                raise BadRequest(f"{image.where} has more than {MAX_SCANS} scans")
            opened.load()
            return fit_image(opened, spec)
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


class ImageDecoder:
    """Decodes for all requests, on a bounded number of threads and with a bounded queue.

    Args:
        max_pixels: of one image.
        queue_samples: images that may wait for a thread, over all requests.
        threads: how many; default: one per core.
    """

    def __init__(self, *, max_pixels: int, queue_samples: int, threads: int | None = None) -> None:
        self._max_pixels = max_pixels
        self._queue_samples = queue_samples
        self._waiting = 0
        self._begun: set[Future[NDArray[np.uint8]]] = set()
        self._threads = ThreadPoolExecutor(
            threads or os.cpu_count() or 1, thread_name_prefix="intaglio-decode"
        )

    @property
    def busy(self) -> bool:
        """Whether a thread is at work, perhaps for somebody who has given up: nothing stops it."""
        return bool(self._begun)

    async def decode(self, images: Sequence[EncodedImage], spec: InputSpec) -> NDArray[np.uint8]:
        """Decode the images of one request, in order.

        Cancelling the awaiting task withdraws the images that are not yet being decoded.

        Returns:
            ``(n, C, H, W)`` uint8.

        Raises:
            BadRequest: an image does not decode; the message says which.
            TooLarge: an image has too many pixels.
            QueueFull: too many images wait already.
        """
        if self._waiting + len(images) > self._queue_samples:
            raise QueueFull(retry_after=1.0)
        self._waiting += len(images)
        left = len(images)
        decoded = np.empty((len(images), *spec.shape), dtype=np.uint8)
        try:
            for index, image in enumerate(images):
                work = partial(decode_image, image, spec, max_pixels=self._max_pixels)
                begun = self._threads.submit(work)
                self._begun.add(begun)
                begun.add_done_callback(self._begun.discard)
                pixels: NDArray[np.uint8] = await asyncio.wrap_future(begun)
                decoded[index] = pixels
                self._waiting -= 1
                left -= 1
        finally:
            self._waiting -= left
        return decoded


def build_decoder(settings: Settings) -> ImageDecoder:
    """The decoder of a server with these ``settings``."""
    return ImageDecoder(
        max_pixels=settings.limits.max_image_pixels,
        queue_samples=settings.batching.queue_samples,
    )

"""The images of all requests, decoded on a few threads, in turns, with bounds on what may wait."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from models.card import InputSpec
from server.errors import QueueFull
from server.images import EncodedImage, check_pixels, decode_image
from server.settings import Settings
from server.turns import Turns

__all__ = ["ImageDecoder", "build_decoder"]


@dataclass(slots=True)
class _Share:
    """What one caller has here.

    Attributes:
        waiting: images.
        requests: how many are at work.
    """

    waiting: int = 0
    requests: int = 0


class ImageDecoder:
    """Decodes for all requests, on a bounded number of threads and with a bounded queue.

    Args:
        max_pixels: of one image.
        max_request_pixels: of the images of one request together.
        queue_samples: images that may wait for a thread, over all requests.
        caller_samples: images of one known caller among them; None: all.
        threads: how many; default: one per core.
    """

    def __init__(
        self,
        *,
        max_pixels: int,
        max_request_pixels: int,
        queue_samples: int,
        caller_samples: int | None = None,
        threads: int | None = None,
    ) -> None:
        self._max_pixels = max_pixels
        self._max_request_pixels = max_request_pixels
        self._queue_samples = queue_samples
        self._caller_samples = queue_samples if caller_samples is None else caller_samples
        self._waiting = 0
        self._shares: dict[str | None, _Share] = {}
        self._turns = Turns("intaglio-decode", threads)

    @property
    def busy(self) -> bool:
        """Whether a thread is at work, perhaps for somebody who has given up: nothing stops it."""
        return self._turns.busy

    async def decode(
        self, images: Sequence[EncodedImage], spec: InputSpec, *, caller: str | None = None
    ) -> NDArray[np.uint8]:
        """Decode the images of one request, in order, if their headers promise no more than it may.

        Cancelling the awaiting task withdraws the images that are not yet being decoded.

        Args:
            images: as they came.
            spec: what they are made to fit.
            caller: who sent them; None: callers are not told apart.

        Returns:
            ``(n, C, H, W)`` uint8.

        Raises:
            BadRequest: an image does not decode; the message says which.
            TooLarge: an image has too many pixels, or all of them together have.
            QueueFull: too many images wait already, or too many of this caller.
        """
        share = self._shares.get(caller) or _Share()
        if caller is not None and share.waiting + len(images) > self._caller_samples:
            raise QueueFull(
                f"this API key has {share.waiting} images waiting to be decoded, try again later",
                retry_after=1.0,
            )
        if self._waiting + len(images) > self._queue_samples:
            raise QueueFull(retry_after=1.0)
        self._shares[caller] = share
        share.requests += 1
        left = len(images)
        self._wait(share, left)
        try:
            if left * self._max_pixels > self._max_request_pixels:
                await self._turns.take(caller, partial(self._measured, images))
            decoded = np.empty((left, *spec.shape), dtype=np.uint8)
            for index, image in enumerate(images):
                work = partial(decode_image, image, spec, max_pixels=self._max_pixels)
                decoded[index] = await self._turns.take(caller, work)
                self._wait(share, -1)
                left -= 1
        finally:
            self._wait(share, -left)
            share.requests -= 1
            if not share.requests:
                del self._shares[caller]
        return decoded

    def _measured(self, images: Sequence[EncodedImage]) -> None:
        check_pixels(images, max_pixels=self._max_pixels, most=self._max_request_pixels)

    def _wait(self, share: _Share, images: int) -> None:
        self._waiting += images
        share.waiting += images


def build_decoder(settings: Settings) -> ImageDecoder:
    """The decoder of a server with these ``settings``."""
    limits, queue = settings.limits, settings.batching.queue_samples
    return ImageDecoder(
        max_pixels=limits.max_image_pixels,
        max_request_pixels=limits.request_pixels,
        queue_samples=queue,
        caller_samples=max(queue // 2, limits.max_request_samples),
    )

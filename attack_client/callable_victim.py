"""A victim that is a function of this process: the same thefts without a server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from attack_client.contract import ExplainedReply, Reply, VictimFacts
from attack_client.errors import ProtocolError

__all__ = ["CallableVictim"]

Predict = Callable[[NDArray[np.uint8]], Any]
Explain = Callable[[NDArray[np.uint8]], tuple[Any, Any]]

TOLERANCE = 1e-6
"""By which a probability may leave [0, 1], as over HTTP."""


class CallableVictim:
    """A black box around ``predict``; also an asynchronous context manager, as ``HttpVictim`` is.

    It is called from another thread, once at a time, so a long forward pass does not stop the event
    loop. What is counted, recorded and resumed is what it is over HTTP.

    Args:
        predict: from images ``(n, C, H, W)`` uint8 to probabilities ``(n, K)``, rows of which need
            not sum to one; or to labels ``(n,)`` of an integer type, which are answered as one-hot
            rows. Anything that ``numpy.asarray`` takes.
        shape: ``(C, H, W)``.
        classes: K.
        name: what reports call it.
        explain: from the same images to probabilities and attribution maps ``(n, h, w)``.
        maps: ``(h, w)`` of those maps; goes with ``explain``.

    Raises:
        ValueError: ``explain`` without ``maps``, or the other way round.
    """

    def __init__(
        self,
        predict: Predict,
        *,
        shape: tuple[int, int, int],
        classes: int,
        name: str = "callable",
        explain: Explain | None = None,
        maps: tuple[int, int] | None = None,
    ) -> None:
        if (explain is None) != (maps is None):
            raise ValueError("explain and maps go together")
        self._predict = predict
        self._explain = explain
        self._facts = VictimFacts(
            url="python:", model=name, shape=shape, classes=classes, maps=maps
        )
        self._one_at_a_time = threading.Lock()

    def __repr__(self) -> str:
        return f"CallableVictim({self._facts.model!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing is held open."""

    @property
    def facts(self) -> VictimFacts:
        """What the constructor was told."""
        return self._facts

    async def query(
        self,
        images: NDArray[np.uint8],
        *,
        key: str | None = None,
        sending: Callable[[], None] | None = None,
    ) -> Reply:
        """Answer for ``images`` ``(n, C, H, W)`` uint8; each image is one query.

        Raises:
            ProtocolError: the images do not fit, or what the function returned are no answers.
        """
        del key
        if sending is not None:
            sending()
        said = await self._call(self._predict, images)
        return Reply(probabilities=self._probabilities(said, len(images)))

    async def explain(
        self,
        images: NDArray[np.uint8],
        *,
        key: str | None = None,
        sending: Callable[[], None] | None = None,
    ) -> ExplainedReply:
        """As ``query``, with an attribution map for each image.

        Raises:
            ProtocolError: as ``query``; or it explains nothing.
        """
        del key
        if self._explain is None:
            raise ProtocolError(f"the model {self._facts.model!r} has no maps")
        if sending is not None:
            sending()
        said, shown = await self._call(self._explain, images)
        maps = np.asarray(shown, dtype=np.float32)
        if maps.shape != (len(images), *(self._facts.maps or ())) or not np.isfinite(maps).all():
            raise ProtocolError(
                f"{self!r} returned maps {maps.shape}, not finite ones of shape "
                f"{(len(images), *(self._facts.maps or ()))}"
            )
        return ExplainedReply(self._probabilities(said, len(images)), maps)

    async def _call(self, function: Callable[[NDArray[np.uint8]], Any], images: Any) -> Any:
        if images.dtype != np.uint8 or images.shape[1:] != self._facts.shape or not len(images):
            raise ProtocolError(
                f"images are {images.dtype} {images.shape}, "
                f"not uint8 (n, {', '.join(map(str, self._facts.shape))})"
            )

        def called() -> Any:
            with self._one_at_a_time:
                return function(images)

        return await asyncio.to_thread(called)

    def _probabilities(self, said: Any, count: int) -> NDArray[np.float32]:
        values = np.asarray(said)
        classes = self._facts.classes
        if values.shape == (count,) and values.dtype.kind in "iu":
            if values.min() < 0 or values.max() >= classes:
                raise ProtocolError(f"{self!r} returned labels outside [0, {classes})")
            return np.asarray(np.eye(classes)[values], dtype=np.float32)
        if values.shape != (count, classes):
            raise ProtocolError(
                f"{self!r} returned an array {values.shape} for {count} images, not probabilities "
                f"({count}, {classes}) or integer labels ({count},)"
            )
        matrix = values.astype(np.float32)
        within = (matrix >= -TOLERANCE) & (matrix <= 1 + TOLERANCE)
        if not within.all():
            raise ProtocolError(f"{self!r} returned values outside [0, 1]: logits, perhaps")
        return matrix.clip(min=0.0)

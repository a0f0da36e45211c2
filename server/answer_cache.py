"""Answers that were given before, for the caller they were given to.

What is kept is what left: after the chain, one image at a time. A hit is therefore the same bits
as the answer that was computed, whatever it was batched with then. Whether there was a hit shows in
the time that an answer takes, and nowhere else: callers are admitted, and charged, before.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.metadata
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from server.answer_cache_metrics import AnswerCacheMetrics
from server.evidence import Evidence
from server.served import ServedModel
from server.waiting import Filled

__all__ = ["AnswerCache", "AnswerStore", "LookedUp"]

T = TypeVar("T")

INLINE_BYTES = 2**20
"""Images that are hashed on the event loop; more go to a thread."""

VERSION = importlib.metadata.version("intaglio")

ROW = np.dtype("<f4")


class AnswerStore(Protocol):
    """Where answers are kept; fails open: what cannot be reached holds nothing."""

    async def get(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """What is kept under each key."""
        ...

    async def put(self, answers: Mapping[bytes, bytes]) -> None:
        """Keep ``answers`` for a while."""
        ...

    async def close(self) -> None:
        """Let go of whatever is open."""
        ...


class LookedUp(Protocol):
    """Whoever counts how well a model's answers were known."""

    def __call__(self, served: ServedModel, *, hits: int, misses: int, ns: int) -> None:
        """Count images that were found, and those that were not, in ``ns`` nanoseconds."""
        ...


class AnswerCache:
    """Looks up each image of a request, and has only the others computed.

    Args:
        store: where answers are kept.
        secret: keys the names under which they are kept: nobody who reads them can tell what
            was asked, and another secret, which changes the answers, finds nothing.
        shared: whether all callers of a tier share what is kept.
        metrics: told of hits and misses.
        evidence: told how sure the victim was when it computed what is found; None: nobody is.
    """

    def __init__(
        self,
        store: AnswerStore,
        *,
        secret: bytes,
        shared: bool,
        metrics: AnswerCacheMetrics,
        evidence: Evidence | None = None,
    ) -> None:
        self._store = store
        self._secret = hashlib.blake2b(secret, digest_size=32, person=b"answers").digest()
        self._shared = shared
        self._metrics = metrics
        self._evidence = evidence

    def keeps(self, served: ServedModel) -> bool:
        """Whether answers of ``served`` may be kept.

        A link that remembers may answer an image differently the next time, for instance because
        what it remembers in cannot be reached now; such an answer must not stay.
        """
        return not served.chain.stateful and bool(served.digest)

    async def answer(
        self,
        served: ServedModel,
        images: NDArray[np.uint8],
        compute: Callable[[NDArray[np.uint8]], Awaitable[Filled]],
        *,
        caller: str,
        explain: bool,
        looked_up: LookedUp,
    ) -> Filled:
        """What ``served`` says to ``images`` ``(n, C, H, W)``, n at least 1.

        Args:
            served: may be asked ``keeps``.
            images: of one request.
            compute: answers some of them; what it raises is raised, and then nothing is kept.
            caller: identity of who asks.
            explain: whether maps are asked for.
            looked_up: told how many were known.
        """
        began = time.perf_counter_ns()
        keys = await self._keys(served, images, caller, explain)
        found = [_unpacked(answer, served, explain) for answer in await self._store.get(keys)]
        missing = [row for row, answer in enumerate(found) if answer is None]
        hits = len(images) - len(missing)
        looked_up(served, hits=hits, misses=len(missing), ns=time.perf_counter_ns() - began)
        self._metrics.looked_up(hits=hits, misses=len(missing))
        if hits:
            await self._recall(served, images, found)
        if missing:
            # Without a hit the images go on as they came: no copy.
            asked = images[missing] if hits else images
            computed = await compute(asked)
            sure = await self._sure(served, asked)
            await self._store.put(
                {
                    keys[row]: _packed(computed, place, sure[place])
                    for place, row in enumerate(missing)
                }
            )
            if not hits:
                return computed
            for place, row in enumerate(missing):
                shown = computed.attributions
                found[row] = _Kept(
                    computed.probabilities[place], None if shown is None else shown[place], None
                )
        rows = [answer for answer in found if answer is not None]
        said = np.stack([row.probabilities for row in rows]).astype(np.float32, copy=False)
        if not explain:
            return Filled(said, None)
        maps = np.stack([row.attributions for row in rows if row.attributions is not None])
        return Filled(said, maps.astype(np.float32, copy=False))

    async def close(self) -> None:
        """Let go of whatever is open."""
        await self._store.close()

    async def _keys(
        self, served: ServedModel, images: NDArray[np.uint8], caller: str, explain: bool
    ) -> list[bytes]:
        parts = [
            VERSION,
            "" if self._shared else caller,
            served.name,
            served.version,
            served.tier,
            served.digest,
            repr(served.chain),
            explain,
        ]
        context = hashlib.blake2b(json.dumps(parts).encode(), digest_size=32, key=self._secret)

        def named() -> list[bytes]:
            keys = []
            for image in images:
                named = context.copy()
                named.update(image.tobytes())
                keys.append(named.digest())
            return keys

        return await _hashing(images, named)

    async def _sure(self, served: ServedModel, images: NDArray[np.uint8]) -> Sequence[float | None]:
        """How sure the victim was of each of ``images``, which it was just asked about."""
        if self._evidence is None:
            return [None] * len(images)
        evidence = self._evidence
        return await _hashing(images, lambda: evidence.of(served.weights, evidence.names(images)))

    async def _recall(
        self, served: ServedModel, images: NDArray[np.uint8], found: Sequence[_Kept | None]
    ) -> None:
        """Let the audit know of what was found how sure the victim was, as if it was asked now."""
        if self._evidence is None:
            return
        evidence = self._evidence
        known = {
            row: kept.sure
            for row, kept in enumerate(found)
            if kept is not None and kept.sure is not None
        }
        if known:
            again, sure = images[list(known)], np.array(list(known.values()), dtype=np.float32)
            await _hashing(again, lambda: evidence.saw(served.weights, again, sure))


@dataclass(frozen=True, slots=True)
class _Kept:
    """An answer to one image.

    Attributes:
        probabilities: ``(K,)`` float32.
        attributions: ``(h, w)`` float32; None where none were asked for.
        sure: the victim's highest probability; None where there was no audit.
    """

    probabilities: NDArray[np.float32]
    attributions: NDArray[np.float32] | None
    sure: float | None


async def _hashing(images: NDArray[np.uint8], work: Callable[[], T]) -> T:
    return work() if images.nbytes <= INLINE_BYTES else await asyncio.to_thread(work)


def _packed(answers: Filled, row: int, sure: float | None) -> bytes:
    parts = [answers.probabilities[row].ravel()]
    if answers.attributions is not None:
        parts.append(answers.attributions[row].ravel())
    if sure is not None:
        parts.append(np.array([sure]))
    packed: bytes = np.concatenate(parts).astype(ROW).tobytes()
    return packed


def _unpacked(answer: bytes | None, served: ServedModel, explain: bool) -> _Kept | None:
    """What was kept; None if nothing was, or something that is no such answer."""
    classes = served.card.classes
    height, width = (served.maps or (0, 0)) if explain else (0, 0)
    size = classes + height * width
    if answer is None or len(answer) not in (size * ROW.itemsize, (size + 1) * ROW.itemsize):
        return None
    values = np.frombuffer(answer, dtype=ROW)
    if not np.isfinite(values).all():
        return None
    return _Kept(
        values[:classes],
        values[classes:size].reshape(height, width) if explain else None,
        float(values[size]) if len(values) > size else None,
    )

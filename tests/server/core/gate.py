"""A computation that a test holds back, releases or breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from server.batches import Batches, Computed

__all__ = ["Gate", "expected", "images", "take_all", "turns"]


def images(*values: int) -> NDArray[np.uint8]:
    """One 1x1 grey image per value."""
    return np.array(values, dtype=np.uint8).reshape(-1, 1, 1, 1)


def expected(*values: int) -> NDArray[np.float32]:
    """What a gate answers for ``images(*values)``: every answer tells its question."""
    first = np.array(values, dtype=np.float32) / 255
    return np.stack([first, 1 - first], axis=1)


async def turns(count: int = 12) -> None:
    """Let everything run that can run without waiting."""
    for _ in range(count):
        await asyncio.sleep(0)


async def take_all(
    batches: Batches[str],
    compute: Callable[[str, Sequence[NDArray[np.uint8]]], Awaitable[Computed]],
) -> None:
    """Compute batches until there is none, as the engine's thread does."""
    while (batch := batches.take()) is not None:
        outcome: Computed | Exception
        try:
            outcome = await compute(batch.group, batch.parts)
        except Exception as error:
            outcome = error
        batches.done(batch, outcome)


class Gate:
    """Answers batches one after another, each when it is let through.

    Attributes:
        batches: group and pixel values of every batch that began.
        fails: pixel values whose presence makes a batch raise.
        marks: pixel values whose rows are marked as failed.
    """

    def __init__(self, *, opened: bool = False) -> None:
        self.batches: list[tuple[str, tuple[int, ...]]] = []
        self.fails: dict[int, BaseException] = {}
        self.marks: set[int] = set()
        self.reshape: Callable[[Computed], Computed] = lambda computed: computed
        self.computing = 0
        self._opened = opened
        self._passes = asyncio.Semaphore(0)

    def begin(self, batches: Batches[str]) -> None:
        """What a batcher calls to have its batches taken: here by a task of the same loop."""
        self._taker = asyncio.ensure_future(take_all(batches, self))

    def let_through(self, batches: int = 1) -> None:
        for _ in range(batches):
            self._passes.release()

    def open(self) -> None:
        self._opened = True
        self._passes.release()

    async def __call__(self, group: str, parts: Sequence[NDArray[np.uint8]]) -> Computed:
        values = tuple(int(value) for part in parts for value in part[:, 0, 0, 0])
        self.batches.append((group, values))
        self.computing += 1
        assert self.computing == 1, "one call at a time"
        try:
            if not self._opened:
                await self._passes.acquire()
            for value in values:
                if value in self.fails:
                    raise self.fails[value]
            failed = np.array([value in self.marks for value in values])
            return self.reshape(Computed(expected(*values), failed))
        finally:
            self.computing -= 1

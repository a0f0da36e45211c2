"""What averaging add-ons share: each image is asked about n times, and its answers are averaged.

All n answers lie in the transfer set, at positions ``n i .. n i + n`` for the image that the attack
calls ``i``, behind what add-ons nearer to the victim asked for themselves: what was paid for is
counted, and a kill in the middle loses none of it.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from attack_client.adaptive.contract import Asking, Harvest, Run
from attack_client.checked_numbers import whole_number
from attack_client.contract import Oracle, Pool

__all__ = ["Averaging"]


class Averaging(Asking):
    """Asks about n versions of every image; the first is the image itself.

    Args:
        n: queries per image, at least 2.
    """

    undoes: ClassVar[str] = "averaging"

    def __init__(self, *, n: int) -> None:
        self.n = whole_number("n", n, least=2, most=1000)

    @property
    def per_image(self) -> int:
        """What ``n`` says."""
        return self.n

    @abstractmethod
    def version(self, number: int, start: int, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Version ``number`` (1 to n - 1) of ``images`` ``(m, C, H, W)``.

        Args:
            number: which.
            start: position of the first image, as the attack counts.
            images: uint8.

        Returns:
            ``(m, C, H, W)`` uint8: the same whatever other images are asked about at once.
        """

    async def run(self, attack: Run, oracle: Oracle, pool: Pool) -> None:
        """Let the attack ask; it has an n-th of the budget."""
        await attack(_Averaged(self, oracle), pool)

    def gather(self, harvest: Harvest) -> Harvest:
        """The images themselves, each with the mean of the answers to its n versions.

        Images that another add-on asked for on its own account were asked about once, and stay.
        """
        foreign = np.flatnonzero(harvest.positions < 0)
        own = np.flatnonzero(harvest.positions >= 0)
        own = own[np.argsort(harvest.positions[own], kind="stable")]
        images, counts = np.unique(harvest.positions[own] // self.n, return_counts=True)
        complete = np.repeat(counts == self.n, counts)
        told = harvest.only(own[complete])
        means = _means(told.answers, self.n)
        alone = harvest.only(foreign)
        return Harvest(
            np.concatenate([alone.images, told.images[:: self.n]]),
            np.concatenate([alone.answers, means]),
            np.ones(len(foreign) + len(means), dtype=np.float32),
            np.concatenate([alone.positions, images[counts == self.n]]),
        )


class _Averaged:
    """The oracle as the attack sees it."""

    def __init__(self, averaging: Averaging, oracle: Oracle) -> None:
        self._averaging = averaging
        self._oracle = oracle

    @property
    def budget(self) -> int:
        return self._oracle.budget // self._averaging.n

    async def ask(self, start: int, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        n = self._averaging.n
        versions = [images]
        versions += [self._averaging.version(number, start, images) for number in range(1, n)]
        asked = np.stack(versions, axis=1).reshape(-1, *images.shape[1:])
        return _means(await self._oracle.ask(n * start, asked), n)


def _means(answers: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    """Means ``(m, K)`` of ``(n m, K)``, in float64 on the way."""
    grouped = answers.reshape(-1, n, answers.shape[1])
    return np.asarray(grouped.mean(axis=1, dtype=np.float64), dtype=np.float32)

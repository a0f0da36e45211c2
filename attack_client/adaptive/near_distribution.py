"""Near-in-distribution pools: scouts first, then images that look like what the victim is sure of.

Defenses that answer strangers differently (AM, EDM, InI, outlier exposure) are got round by asking
about images that look like the victim's own.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from attack_client.adaptive.contract import Asking, Harvest, Run
from attack_client.checked_numbers import finite_number, whole_number
from attack_client.contract import Oracle, Pool
from attack_client.errors import AdaptationError

__all__ = ["NearDistribution"]

CHUNK = 2048
"""Images compared at a time, which bounds the memory for distances."""

SIDE = 14
"""Images are compared at about this many pixels a side."""


class NearDistribution(Asking):
    """Spends part of the budget on finding the part of the pool that is worth the rest.

    The scouts are a random sample of the pool. Every other image is judged by the mean top
    probability that the victim gave its nearest scouts, and the attack is given the share of the
    pool that is judged best, best or not in the order of its own choosing. Scouts are learnt from,
    too: they are paid for.

    A victim that misinforms confidently (AM) is as sure of strangers, and is not seen through.

    Args:
        scouts: images asked about first.
        keep: share of the rest of the pool that the attack is given, in (0, 1].
        neighbours: scouts that judge an image.
        seed: of the choice of scouts.
    """

    kind: ClassVar[str] = "near-distribution"

    def __init__(
        self, *, scouts: int = 1000, keep: float = 0.3, neighbours: int = 10, seed: int = 0
    ) -> None:
        if not 0.0 < finite_number("keep", keep) <= 1.0:
            raise ValueError(f"keep must be above 0 and at most 1, not {keep}")
        self.scouts = whole_number("scouts", scouts, least=1)
        self.keep = keep
        if whole_number("neighbours", neighbours, least=1) > scouts:
            raise ValueError(f"neighbours must be between 1 and scouts, not {neighbours}")
        self.neighbours = neighbours
        self.seed = whole_number("seed", seed, least=0)

    def check(self, budget: int, pool: int) -> None:
        """Refuse a budget that scouts use up, and a choice too narrow for what is left.

        Raises:
            AdaptationError: says which.
        """
        if budget <= self.scouts:
            raise AdaptationError(
                f"{self.kind} asks about {self.scouts} scouts first, which leaves nothing of a "
                f"budget of {budget}: lower scouts or raise --budget"
            )
        rest = pool - self.scouts
        if rest < 1 or self._kept(rest) < min(rest, budget - self.scouts):
            raise AdaptationError(
                f"{self.kind} would keep {self._kept(max(rest, 0))} images of a pool of {pool}, "
                f"too few for {budget - self.scouts} queries: raise keep or lower --budget"
            )

    def leaves(self, budget: int) -> int:
        """What the scouts do not use."""
        return budget - self.scouts

    async def run(self, attack: Run, oracle: Oracle, pool: Pool) -> None:
        """Ask about the scouts, then let ``attack`` ask about what is near.

        Raises:
            AdaptationError: pool and budget do not fit; nothing was asked.
        """
        self.check(oracle.budget, len(pool.images))
        order = np.random.default_rng(self.seed).permutation(len(pool.images))
        scouts, rest = np.sort(order[: self.scouts]), np.sort(order[self.scouts :])
        answers = await oracle.ask(0, pool.images[scouts])
        judged = _judged(pool.images, scouts, rest, answers.max(axis=1), neighbours=self.neighbours)
        best = np.argsort(-judged, kind="stable")[: self._kept(len(rest))]
        near = rest[np.sort(best)]
        await attack(
            _Shifted(oracle, self.scouts),
            Pool(pool.name, pool.images[near], pool.labels[near]),
        )

    def gather(self, harvest: Harvest) -> Harvest:
        """Scouts and all; they have no position of the attack's."""
        positions = np.maximum(harvest.positions - self.scouts, -1)
        return Harvest(harvest.images, harvest.answers, harvest.weights, positions)

    def _kept(self, rest: int) -> int:
        return math.ceil(self.keep * rest)


class _Shifted:
    """The oracle as the attack sees it: without what the scouts used."""

    def __init__(self, oracle: Oracle, used: int) -> None:
        self._oracle = oracle
        self._used = used

    @property
    def budget(self) -> int:
        return self._oracle.budget - self._used

    async def ask(self, start: int, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return await self._oracle.ask(start + self._used, images)


def _judged(
    images: NDArray[np.uint8],
    scouts: NDArray[np.int64],
    rest: NDArray[np.int64],
    confidence: NDArray[np.float32],
    *,
    neighbours: int,
) -> NDArray[np.float64]:
    """Mean confidence of the nearest scouts of each of ``rest``.

    A theft that goes on must choose as it did before. Sums of whole numbers below 2^53 are exact
    in float64 in whatever order they are added up, and of scouts equally near the first counts.
    """
    known = _coarse(images[scouts])
    lengths = (known * known).sum(axis=1)
    confident = np.rint(confidence.astype(np.float64) * 1e6)
    judged = np.empty(len(rest), dtype=np.float64)
    for start in range(0, len(rest), CHUNK):
        part = _coarse(images[rest[start : start + CHUNK]])
        # The length of the image itself is the same for all scouts.
        distances = lengths - 2.0 * (part @ known.T)
        nearest = np.argsort(distances, axis=1, kind="stable")[:, :neighbours]
        judged[start : start + len(part)] = confident[nearest].sum(axis=1)
    return judged


def _coarse(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Whole numbers ``(n, D)``: sums of pixels over blocks, edges that fill no block left out."""
    count, channels, height, width = images.shape
    block = max(1, min(height, width) // SIDE)
    rows, columns = height // block, width // block
    cut = images[:, :, : rows * block, : columns * block].astype(np.float64)
    blocks = cut.reshape(count, channels, rows, block, columns, block)
    return np.ascontiguousarray(blocks.sum(axis=(3, 5)).reshape(count, -1))

"""Ways to spend the same queries on a small pool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from attack_client.adaptive.views import view
from attack_client.attacks.composite import Composite
from attack_client.attacks.knockoff import Knockoff
from attack_client.contract import Attack, Oracle, Pool
from attack_client.report.schema import Labels

__all__ = ["BUDGET", "PARTS", "POOLS", "WAYS", "Views", "Way"]

POOLS = (500, 2000)
BUDGET = 5000
PARTS = (2, 3, 5)


class Views(Attack):
    """Asks about every image of the pool, then about views of it until the budget is spent."""

    kind: ClassVar[str] = "views"

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    async def run(self, oracle: Oracle, pool: Pool) -> None:
        """Ask about ``oracle.budget`` images and views of them."""
        order = np.random.default_rng(self.seed).permutation(len(pool.images))
        images: NDArray[np.uint8] = pool.images[order]
        for number, start in enumerate(range(0, oracle.budget, len(images))):
            shown = images
            if number:
                shown = view(images, "affine", seed=self.seed, start=0, number=number)
            await oracle.ask(start, shown[: oracle.budget - start])


@dataclass(frozen=True, slots=True)
class Way:
    """One way to spend queries on a pool.

    Attributes:
        name: in the table.
        whole: whether all queries are spent; otherwise every image of the pool is asked once.
        labels: what clones learn from.
        parts: images in a blend; 0 for none.
        augmented: whether training changes the images, which costs no query.
    """

    name: str
    whole: bool
    labels: Labels
    parts: int = 0
    augmented: bool = False

    def attack(self, seed: int) -> Attack:
        """What chooses the images."""
        if self.parts:
            return Composite(parts=self.parts, seed=seed)
        return Views(seed=seed) if self.whole else Knockoff(seed=seed)


WAYS: tuple[Way, ...] = (
    *(Way(f"composite, {parts} parts", True, "hard", parts) for parts in PARTS),
    Way("views", True, "hard"),
    Way("composite, 2 parts", True, "soft", 2),
    Way("views", True, "soft"),
    Way("standard", False, "hard"),
    Way("standard", False, "soft"),
    Way("standard, shifted in training", False, "hard", augmented=True),
    Way("standard, shifted in training", False, "soft", augmented=True),
)

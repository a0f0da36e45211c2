"""Composite images: blends of images from an unlabelled pool.

"Composite images" mimicking attack, section 3.2 and algorithm 1: ``x = p D[i1] + (1 - p) D[i2]``
with p uniform in [0, 1], new images in every epoch of the student, argmax labels.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from attack_client.attacks.order import CHUNK, check_seed
from attack_client.checked_numbers import finite_number, whole_number
from attack_client.contract import Attack, Oracle, Pool

__all__ = ["Composite"]


class Composite(Attack):
    """Asks about convex combinations of ``parts`` images of the pool, rounded to uint8.

    The weights are Dirichlet(a, ..., a), which for a of 1 and two parts is p uniform in [0, 1].
    The pool may be smaller than the budget, and images are drawn with replacement. A smaller theft
    is a prefix of a larger one.

    The paper makes new images for every epoch, which a budget pays for: with ``per_epoch`` images
    each, a clone of a budget B is trained for B / ``per_epoch`` epochs and sees no image twice.
    Without it the images are drawn once and are shown in every epoch, as in any other theft.

    Args:
        parts: images in a blend, 2 to 1000; the paper has 2 and speaks of more.
        concentration: a, above 0. Below 1 one part dominates, far above 1 all weigh the same.
        per_epoch: new images in every epoch; None draws once. A whole budget must be a multiple.
        seed: of the draws.

    Raises:
        ValueError: an argument is out of range.
    """

    kind: ClassVar[str] = "composite"

    def __init__(
        self,
        *,
        parts: int = 2,
        concentration: float = 1.0,
        per_epoch: int | None = None,
        seed: int = 0,
    ) -> None:
        if not finite_number("concentration", concentration) > 0.0:
            raise ValueError(f"concentration must be a finite number > 0, not {concentration}")
        self.parts = whole_number("parts", parts, least=2, most=1000)
        self.concentration = concentration
        self.per_epoch = None
        if per_epoch is not None:
            self.per_epoch = whole_number("per_epoch", per_epoch, least=1)
        self.seed = check_seed(seed)

    def blends(self, pool: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
        """The ``number``-th ``CHUNK`` of composite images ``(CHUNK, C, H, W)`` of ``pool``."""
        draws = np.random.default_rng([self.seed, number])
        chosen = draws.integers(0, len(pool), size=(CHUNK, self.parts))
        weights = draws.dirichlet(np.full(self.parts, self.concentration), size=CHUNK)
        blend = np.zeros((CHUNK, *pool.shape[1:]))
        for part in range(self.parts):
            blend += weights[:, part, None, None, None] * pool[chosen[:, part]]
        return np.rint(blend).astype(np.uint8)

    async def run(self, oracle: Oracle, pool: Pool) -> None:
        """Ask about ``oracle.budget`` blends of images of ``pool``, whose labels do not count."""
        for number, start in enumerate(range(0, oracle.budget, CHUNK)):
            await oracle.ask(start, self.blends(pool.images, number)[: oracle.budget - start])

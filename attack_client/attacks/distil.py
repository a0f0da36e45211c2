"""Distillation with the victim's own training data, the threat model of Nasty, Stingy and AST.

Ma et al. (ICLR 2021); Ma et al. (ICLR-W 2022); Yilmaz and Keles, Adversarial Sparse Teacher (2024).
This file chooses the images: every one of the training set, or as many as the budget allows. What
is learnt from the answers stands in ``distil_objective``.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from attack_client.attacks.order import ask_in_order, check_seed, drawn_order
from attack_client.contract import Attack, Oracle, Pool
from attack_client.errors import PoolError

__all__ = ["Distil"]


class Distil(Attack):
    """Asks once about each image of a labelled pool, in an order drawn from the seed.

    A theft with a smaller budget is a prefix of one with a larger, and a random sample of the pool.

    Args:
        seed: of the order.
    """

    kind: ClassVar[str] = "distil"

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = check_seed(seed)

    def order(self, available: int) -> NDArray[np.int64]:
        """Which image of a pool of ``available`` images stands at each position, ``(N,)``."""
        return drawn_order(available, self.seed)

    async def run(self, oracle: Oracle, pool: Pool) -> None:
        """Ask about ``oracle.budget`` images of ``pool``.

        Raises:
            PoolError: the pool has fewer images than the budget.
        """
        available = len(pool.images)
        if oracle.budget > available:
            raise PoolError(
                f"the budget is {oracle.budget} queries but {pool.name} has {available} training "
                "images: lower --budget, or say --budget all"
            )
        await ask_in_order(oracle, pool, self.order(available))

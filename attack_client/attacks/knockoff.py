"""KnockoffNets with the random strategy: images of an unrelated pool, each asked about once.

Orekondy, Schiele, Fritz: Knockoff Nets (CVPR 2019), section 4.1, "random".
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from attack_client.contract import Attack, Oracle, Pool
from attack_client.errors import PoolError

__all__ = ["Knockoff"]

CHUNK = 4096
"""Images handed to the oracle at a time, which bounds the memory for copies of the pool."""


class Knockoff(Attack):
    """Draws without replacement, in an order that depends on the seed and the pool's size only.

    A theft with a smaller budget is a prefix of one with a larger.

    Args:
        seed: of the permutation.
    """

    kind: ClassVar[str] = "knockoff"

    def __init__(self, *, seed: int = 0) -> None:
        if seed < 0:
            raise ValueError(f"seed must not be negative, not {seed}")
        self.seed = seed

    async def run(self, oracle: Oracle, pool: Pool) -> None:
        """Ask about ``oracle.budget`` images of ``pool``.

        Raises:
            PoolError: the pool has fewer images than the budget. The official code starts the
                pool again; the repeated answers would be paid for and teach nothing.
        """
        available = len(pool.images)
        if oracle.budget > available:
            raise PoolError(
                f"the budget is {oracle.budget} queries but pool {pool.name} has {available} "
                "images: lower --budget, or use a larger pool"
            )
        order = np.random.default_rng(self.seed).permutation(available)[: oracle.budget]
        for start in range(0, len(order), CHUNK):
            await oracle.ask(start, pool.images[order[start : start + CHUNK]])

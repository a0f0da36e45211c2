"""Asking about images of a pool, each once, in an order that a seed draws."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from attack_client.checked_numbers import whole_number
from attack_client.contract import Oracle, Pool
from attack_client.errors import PoolError

__all__ = ["CHUNK", "ask_in_order", "check_seed", "drawn_order", "require_enough"]

CHUNK = 4096
"""Images handed to the oracle at a time, which bounds the memory for copies of the pool."""


def check_seed(seed: int) -> int:
    """``seed``, if it is one.

    Raises:
        ValueError: it is negative, or no whole number.
    """
    return whole_number("seed", seed, least=0)


def drawn_order(available: int, seed: int) -> NDArray[np.int64]:
    """A permutation of ``range(available)``: a smaller theft is a prefix of a larger one."""
    return np.random.default_rng(seed).permutation(available)


def require_enough(oracle: Oracle, pool: Pool) -> None:
    """Refuse a budget that a pool cannot fill.

    The official code starts the pool again; the repeated answers would be paid for and teach
    nothing.

    Raises:
        PoolError: the pool has fewer images than the budget.
    """
    if oracle.budget > len(pool.images):
        raise PoolError(
            f"the budget is {oracle.budget} queries but pool {pool.name} has {len(pool.images)} "
            "images: lower --budget, or use a larger pool"
        )


async def ask_in_order(oracle: Oracle, pool: Pool, order: NDArray[np.int64]) -> None:
    """Ask about the images of ``pool`` that stand first in ``order``, as the budget allows."""
    chosen = order[: oracle.budget]
    for start in range(0, len(chosen), CHUNK):
        await oracle.ask(start, pool.images[chosen[start : start + CHUNK]])

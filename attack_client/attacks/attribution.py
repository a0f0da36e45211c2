"""Stealing with explanations: images of an unrelated pool, each asked once, with its map.

Milli et al.: Model Reconstruction from Model Explanations (FAT* 2019); equation 1 of the
DeepDefense paper. This file chooses the images, as the random strategy of KnockoffNets does; what a
clone makes of the maps stands in ``attribution_objective``. On the command line::

    intaglio attack attribution --url URL --model NAME --pool fashion_mnist --test mnist
        --budget 10000 --clone lenet --lambda 0,0.1,1,10 --interpreter grad-cam --out DIR

and in a program::

    stolen = await steal(victim, pool, Attribution(seed=0), budget=10_000, out=Path("theft"))
    clone = train_attribution_clone(
        stolen, budget=10_000, labels="soft", recipe=CloneRecipe(architecture="lenet"),
        matching=MapMatching(weight=1.0, interpreter="grad-cam"),
    )
"""

from __future__ import annotations

from typing import ClassVar

from attack_client.attacks.order import ask_in_order, check_seed, drawn_order, require_enough
from attack_client.contract import Attack, Oracle, Pool

__all__ = ["Attribution"]


class Attribution(Attack):
    """Draws without replacement, in the order that ``Knockoff`` of the same seed draws.

    The victim must announce attribution maps; every answer is asked for with its map.

    Args:
        seed: of the permutation.
    """

    kind: ClassVar[str] = "attribution"
    explains: ClassVar[bool] = True

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = check_seed(seed)

    async def run(self, oracle: Oracle, pool: Pool) -> None:
        """Ask about ``oracle.budget`` images of ``pool``.

        Raises:
            PoolError: the pool has fewer images than the budget.
        """
        require_enough(oracle, pool)
        await ask_in_order(oracle, pool, drawn_order(len(pool.images), self.seed))

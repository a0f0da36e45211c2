"""KnockoffNets: images of an unrelated pool, each asked about once.

Orekondy, Schiele, Fritz: Knockoff Nets (CVPR 2019), section 4.1: the random strategy, and the
adaptive one, which learns which of the pool's classes are worth asking about.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

from attack_client.attacks.order import ask_in_order, check_seed, drawn_order, require_enough
from attack_client.attacks.rewards import Rewards
from attack_client.checked_numbers import whole_number
from attack_client.contract import Attack, Oracle, Pool

__all__ = ["Knockoff"]


class Knockoff(Attack):
    """Draws without replacement; a theft with a smaller budget is a prefix of one with a larger.

    Random, the order depends on the seed and the pool's size only. Adaptive, it depends on the
    answers as well, and the pool's classes are the actions of a gradient bandit.

    Args:
        strategy: ``random`` or ``adaptive``.
        reward: what the adaptive strategy looks for: ``cert`` (answers the victim is sure of),
            ``div`` (answers unlike those so far), ``loss`` (answers the clone gets wrong) or
            ``all`` (their mean, standardised).
        stride: images between two looks at the rewards, at least 1.
        clone: architecture of the clone whose loss is a reward.
        seed: of all that is drawn.
        device: where that clone is trained.
        allow_factories: factories that it may be built by.

    Raises:
        ValueError: an argument is not one of these.
    """

    kind: ClassVar[str] = "knockoff"

    def __init__(
        self,
        *,
        strategy: str = "random",
        reward: str = "all",
        stride: int = 64,
        clone: str = "lenet",
        seed: int = 0,
        device: str = "cpu",
        allow_factories: Collection[str] = (),
    ) -> None:
        if not isinstance(clone, str):
            raise ValueError(f"clone must be the name of an architecture, not {clone!r}")
        if strategy not in ("random", "adaptive"):
            raise ValueError(f"strategy must be random or adaptive, not {strategy!r}")
        Rewards(reward)
        self.strategy = strategy
        self.reward = reward
        self.stride = whole_number("stride", stride, least=1)
        self.clone = clone
        self.seed = check_seed(seed)
        self.device = device
        self.allow_factories = allow_factories

    def __repr__(self) -> str:
        """Nothing that a random strategy has no use for: its thefts go on under this name."""
        if self.strategy == "random":
            return f"knockoff(seed={self.seed})"
        return super().__repr__()

    @property
    def architectures(self) -> tuple[str, ...]:
        """Of the clone whose loss is a reward, where it is."""
        adaptive = self.strategy == "adaptive" and Rewards(self.reward).needs_clone
        return (self.clone,) if adaptive else ()

    async def run(self, oracle: Oracle, pool: Pool) -> None:
        """Ask about ``oracle.budget`` images of ``pool``.

        Raises:
            PoolError: the pool has fewer images than the budget; or, adaptive, no classes.
            ModelsError: the clone whose loss is a reward cannot be built or trained.
        """
        require_enough(oracle, pool)
        if self.strategy == "random":
            await ask_in_order(oracle, pool, drawn_order(len(pool.images), self.seed))
            return
        from attack_client.apprentice import Apprentice
        from attack_client.attacks.knockoff_adaptive import ask_adaptively

        def hire(classes: int) -> Apprentice:
            return Apprentice(
                self.clone,
                pool.images,
                classes=classes,
                seed=self.seed,
                device=self.device,
                allow_factories=self.allow_factories,
            )

        rewards = Rewards(self.reward)
        await ask_adaptively(
            oracle,
            pool,
            rewards=rewards,
            stride=self.stride,
            hire=hire if rewards.needs_clone else None,
            seed=self.seed,
        )

"""KnockoffNets with the adaptive strategy: the pool's classes as the arms of a bandit.

Orekondy, Schiele, Fritz: Knockoff Nets (CVPR 2019), section 4.1.2, on flat classes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from attack_client.apprentice import Apprentice
from attack_client.attacks.bandit import GradientBandit
from attack_client.attacks.rewards import Rewards
from attack_client.contract import Oracle, Pool
from attack_client.errors import PoolError
from models.training.plan import Sgd

__all__ = ["ask_adaptively"]

OPTIMISER = Sgd(lr=0.02, weight_decay=5e-4)
"""Of the clone whose loss is a reward: many short lessons, so a smaller step."""


async def ask_adaptively(
    oracle: Oracle,
    pool: Pool,
    *,
    rewards: Rewards,
    stride: int,
    hire: Callable[[int], Apprentice] | None,
    seed: int,
) -> None:
    """Ask about ``oracle.budget`` images of ``pool``, each once.

    The policy is brought up to date every ``stride`` answers, so that a request is as full as a
    random attacker's. A smaller budget asks about the first images of a larger one.

    Args:
        oracle: the victim.
        pool: with labels, which are the actions; at least as large as the budget.
        rewards: judges answers, in order.
        stride: images between two looks at the rewards.
        hire: makes the clone whose loss is a reward, given the number of classes; None where no
            loss is. It learns from every answer after that was judged, and once more from as many
            earlier ones.
        seed: of which images are drawn.

    Raises:
        PoolError: the pool has no label for each image.
    """
    if len(pool.labels) != len(pool.images):
        raise PoolError(f"pool {pool.name} has no classes to choose among")
    draws = np.random.default_rng(seed)
    waiting = [
        draws.permutation(np.flatnonzero(pool.labels == label)).tolist()
        for label in np.unique(pool.labels)
    ]
    bandit = GradientBandit(len(waiting))
    asked: list[int] = []
    answers: list[NDArray[np.float32]] = []
    apprentice: Apprentice | None = None
    while len(asked) < oracle.budget:
        start = len(asked)
        actions = _drawn(bandit, [len(rest) for rest in waiting], stride, draws)
        chosen = [waiting[action].pop() for action in actions][: oracle.budget - start]
        images = pool.images[chosen]
        said = await oracle.ask(start, images)
        if apprentice is None and hire is not None:
            apprentice = hire(said.shape[1])
        guessed = None if apprentice is None else apprentice.answer(images)
        for row, action in enumerate(actions[: len(chosen)]):
            clone = None if guessed is None else guessed[row]
            bandit.reward(action, rewards.of(said[row], clone))
        asked += chosen
        answers.append(said)
        if apprentice is not None:
            _teach(apprentice, pool, asked, np.concatenate(answers), new=len(chosen), draws=draws)


def _drawn(
    bandit: GradientBandit, left: list[int], count: int, draws: np.random.Generator
) -> list[int]:
    """Actions from the policy, none of them oftener than it has images ``left``."""
    actions: list[int] = []
    for _ in range(min(count, sum(left))):
        action = int(draws.choice(len(left), p=bandit.policy(np.array(left) > 0)))
        left[action] -= 1
        actions.append(action)
    return actions


def _teach(
    apprentice: Apprentice,
    pool: Pool,
    asked: list[int],
    answers: NDArray[np.float32],
    *,
    new: int,
    draws: np.random.Generator,
) -> None:
    """The latest answers, and as many earlier ones lest they be forgotten.

    A first answer waits for the second: there are networks that normalise over what they learn.
    """
    if len(asked) < 2:
        return
    earlier = len(asked) - new
    again = draws.choice(earlier, min(new, earlier), replace=False)
    rows = np.concatenate([again, np.arange(earlier, len(asked))])
    apprentice.learn(
        pool.images[np.array(asked)[rows]],
        answers[rows],
        epochs=1,
        optimiser=OPTIMISER,
        constant=True,
    )

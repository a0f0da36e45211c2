"""A gradient bandit: which of several actions to take, learnt from rewards."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["GradientBandit"]


class GradientBandit:
    """Preferences H over actions and the policy ``softmax(H)`` (Orekondy et al., section 4.1.2).

    After action a with reward r, with N_a its visits and rbar the mean of all rewards so far:
    ``H_a += (r - rbar) (1 - pi_a) / N_a`` and ``H_b -= (r - rbar) pi_b / N_a`` for every other b.

    Args:
        actions: how many there are.
    """

    def __init__(self, actions: int) -> None:
        self._preferences = np.zeros(actions)
        self._visits = np.zeros(actions, dtype=np.int64)
        self._mean_reward = 0.0

    def policy(self, available: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        """Probabilities ``(actions,)``; those that are not ``available`` get none.

        At least one must be available.
        """
        preferences = self._preferences
        if available is not None:
            preferences = np.where(available, preferences, -np.inf)
        exponents = np.exp(preferences - preferences.max())
        shares: NDArray[np.float64] = exponents / exponents.sum()
        return shares

    def reward(self, action: int, reward: float) -> None:
        """Learn that ``action`` was worth ``reward``, which must be finite."""
        self._visits[action] += 1
        self._mean_reward += (reward - self._mean_reward) / self._visits.sum()
        gain = (reward - self._mean_reward) / self._visits[action]
        share = self.policy()
        self._preferences -= gain * share
        self._preferences[action] += gain

"""Partial-Bayes inversion: of all posteriors that would have been served so, the mean."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attack_client.adaptive.contract import Answering, Harvest, Knowledge
from attack_client.adaptive.posteriors import around, check_around, nearby
from attack_client.adaptive.recover import known_pairs
from attack_client.checked_numbers import finite_number, whole_number

__all__ = ["PartialBayes", "expected_given"]

NEARBY = 16
"""Posteriors tried around each of those found, in a round; what was found is one of them."""

DISTANCES = 20_000_000
"""Distances held at a time, which bounds the memory."""


class PartialBayes(Answering):
    """ModelGuard's defense-aware attacker (USENIX Security 2024): ``E[v | v']`` by look-up.

    Posteriors are drawn around the observed answers and put through the known defense; an answer
    is recovered as the mean of those that came out within an L1 distance of ``tolerance``, or of
    the nearest where none did, among those with its top-1.

    Args:
        samples: posteriors drawn; a million in the original.
        tolerance: L1 distance in (0, 2]; 0.01 in the original.
        concentration: of the Dirichlets, divided by K; 8 in the original.
        reach: octaves by which their centres are sharpened, see ``posteriors.around``; 0 in the
            original.
        rounds: of looking further around what was found; 0 in the original. Each puts ``NEARBY``
            posteriors per image through the known defense.
    """

    kind: ClassVar[str] = "partial-bayes"
    undoes: ClassVar[str] = "defense"
    needs_defense: ClassVar[bool] = True

    def __init__(
        self,
        *,
        samples: int = 100_000,
        tolerance: float = 0.01,
        concentration: float = 8.0,
        reach: float = 5.0,
        rounds: int = 2,
    ) -> None:
        if not 0.0 < finite_number("tolerance", tolerance) <= 2.0:
            raise ValueError(f"tolerance must be above 0 and at most 2, not {tolerance}")
        check_around(concentration=concentration, reach=reach)
        self.samples = whole_number("samples", samples, least=100, most=100_000_000)
        self.tolerance = tolerance
        self.concentration = concentration
        self.reach = reach
        self.rounds = whole_number("rounds", rounds, least=0, most=20)

    def apply(self, harvest: Harvest, knowledge: Knowledge) -> Harvest:
        """The same images with what the victim probably said of them."""
        generator = np.random.default_rng(knowledge.seed)
        said = around(
            harvest.answers,
            self.samples,
            generator,
            concentration=self.concentration,
            reach=self.reach,
        )
        served, said = known_pairs(said, knowledge)
        found = expected_given(
            harvest.answers, served, said, tolerance=self.tolerance, device=knowledge.device
        )
        for number in range(self.rounds):
            # Half as far with every round, in the logarithms of the probabilities.
            tried = nearby(found, NEARBY, generator, scale=0.5**number)
            served, tried = known_pairs(tried.reshape(-1, knowledge.classes), knowledge)
            found = _nearest(harvest.answers, served, tried, tolerance=self.tolerance)
        return harvest.saying(found)


def expected_given(
    received: NDArray[np.float32],
    served: NDArray[np.float32],
    said: NDArray[np.float32],
    *,
    tolerance: float,
    device: torch.device | str = "cpu",
) -> NDArray[np.float32]:
    """Mean of ``said`` over the rows whose ``served`` is near, for each row received.

    Args:
        received: ``(n, K)``.
        served: ``(m, K)``.
        said: ``(m, K)``, what led to it.
        tolerance: L1 distance; where nothing is as near, the nearest distance there is.
        device: where to compute.

    Returns:
        ``(n, K)``. Rows are looked up among those with their top-1, or among all if none has it.
    """
    queries = torch.from_numpy(received).to(device)
    keys, values = torch.from_numpy(served).to(device), torch.from_numpy(said).to(device)
    tops, key_tops = queries.argmax(dim=1), keys.argmax(dim=1)
    found = torch.empty_like(queries)
    for top in torch.unique(tops):
        rows, near = (tops == top).nonzero()[:, 0], key_tops == top
        near_keys, near_values = (keys[near], values[near]) if bool(near.any()) else (keys, values)
        for part in torch.split(rows, max(1, DISTANCES // len(near_keys))):
            found[part] = _looked_up(queries[part], near_keys, near_values, tolerance)
    return np.asarray(found.cpu().numpy(), dtype=np.float32)


def _nearest(
    received: NDArray[np.float32],
    served: NDArray[np.float32],
    said: NDArray[np.float32],
    *,
    tolerance: float,
) -> NDArray[np.float32]:
    """As ``expected_given``, each row among samples of its own: ``(n m, K)`` for ``(n, K)``."""
    count, classes = received.shape
    own = served.reshape(count, -1, classes)
    distances = np.abs(own - received[:, np.newaxis]).sum(axis=2)
    # No L1 distance on the simplex is above 2.
    distances += 2.0 * (own.argmax(axis=2) != received.argmax(axis=1)[:, np.newaxis])
    near = distances <= np.maximum(distances.min(axis=1, keepdims=True), tolerance)
    sums = (said.reshape(own.shape) * near[:, :, np.newaxis]).sum(axis=1)
    return np.asarray(sums / near.sum(axis=1, keepdims=True), dtype=np.float32)


def _looked_up(queries: Tensor, keys: Tensor, values: Tensor, tolerance: float) -> Tensor:
    distances = torch.cdist(queries, keys, p=1.0)
    nearest = distances.min(dim=1, keepdim=True).values
    near = (distances <= nearest.clamp(min=tolerance)).to(values.dtype)
    return near @ values / near.sum(dim=1, keepdim=True)

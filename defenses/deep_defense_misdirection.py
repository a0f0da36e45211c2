"""A misdirection network for each query: how its weights are written, what it aims at and keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from defenses.deep_defense_factors import Factors
from defenses.deep_defense_layers import grouped, grouped_at
from defenses.deep_defense_objective import Goal, Observed
from defenses.deep_defense_promise import as_it_leaves, keeps_order
from defenses.deep_defense_ranking import agreement, ranking
from defenses.deep_defense_search import Found, Plan, joined, search
from defenses.deep_defense_weights import Weights
from models.explain import FunctionalInterpreter, GradientInterpreter
from models.simplex import top1

__all__ = ["Form", "MapGoal", "Misdirection"]

Form = Literal["low-rank", "full"]
"""Factors of what is added to each chosen layer, or a whole copy of it, for each query."""

LANES = 32
"""Queries optimised side by side at most: bounds memory, never an answer."""

FLOATS = 2**22
"""Numbers of weights held for queries side by side in the full form: 32 MiB of float64.

More at once is dearer per query: what is larger the C library does not keep, but gets from the
system again at every operation, page by page.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class MapGoal:
    """What is asked of the maps of misdirection networks.

    Attributes:
        interpreter: of the victim, makes them.
        weight: lambda_2, of places that are out of order.
        agreement: the least rank correlation with the victim's map, as both would leave.
    """

    interpreter: FunctionalInterpreter
    weight: float
    agreement: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Misdirection:
    """How to find misdirection networks of ``victim``.

    Attributes:
        victim: read, never written.
        layers: names of the weights to change.
        k: how many classes keep their order.
        alpha: share of the bottom part in Eq. 5.
        order_weight: lambda_1.
        lead: by how much each of the top k is asked to lead.
        decoy: weight of the class after the label.
        plan: of the search.
        weights: how they are written down.
        rank: of a convolution's factors.
        maps: None where maps play no part.
    """

    victim: nn.Module
    layers: tuple[str, ...]
    k: int
    alpha: float
    order_weight: float
    lead: float
    decoy: float
    plan: Plan
    weights: Form
    rank: int
    maps: MapGoal | None = None

    def find(self, images: Tensor, said: Tensor, seeds: Tensor) -> Found:
        """The last good iterate of each of B queries, at least one.

        Args:
            images: ``(B, C, H, W)`` in [0, 1].
            said: by the victim, ``(B, K)`` on the canonical grid.
            seeds: ``(B,)`` int64.
        """
        every = torch.arange(len(seeds), device=seeds.device)
        with torch.inference_mode(mode=False), torch.no_grad():
            return joined(
                [
                    self._together(images[rows], said[rows], seeds[rows])
                    for rows in torch.split(every, self._lanes())
                ]
            )

    def _together(self, images: Tensor, said: Tensor, seeds: Tensor) -> Found:
        top = top1(said)
        order = said.sort(dim=1, descending=True, stable=True).indices
        groups = self._groups(images)
        form = self._form(groups, images, top)
        victims = form.maps

        def verdict(seen: Observed) -> tuple[Tensor, Tensor]:
            answers = as_it_leaves(seen.log_probabilities, top)
            keeps = keeps_order(answers, said, self.k)
            if self.maps is not None and seen.maps is not None and victims is not None:
                keeps = keeps & (agreement(seen.maps, victims) >= self.maps.agreement)
            return answers, keeps

        return search(form, self._goal(len(groups), order, victims), self.plan, verdict, seeds)

    def _groups(self, images: Tensor) -> tuple[tuple[str, ...], ...]:
        if self.maps is None:
            return grouped(self.victim, self.layers)
        return grouped_at(self.maps.interpreter.place, self.victim, self.layers, images)

    def _form(
        self, groups: tuple[tuple[str, ...], ...], images: Tensor, labels: Tensor
    ) -> Factors | Weights:
        interpreter = None if self.maps is None else self.maps.interpreter
        if self.weights == "full":
            return Weights(
                self.victim, groups=groups, images=images, labels=labels, interpreter=interpreter
            )
        assert interpreter is None or isinstance(interpreter, GradientInterpreter)
        return Factors(
            self.victim, groups=groups, rank=self.rank, images=images, labels=labels,
            interpreter=interpreter,
        )  # fmt: skip

    def _goal(self, parts: int, order: Tensor, victims: Tensor | None) -> Goal:
        shares = (self.alpha, 1.0 - self.alpha) if parts == 2 else (1.0,)
        return Goal(
            shares=torch.tensor(shares, dtype=torch.float64, device=order.device),
            order=order,
            k=self.k,
            order_weight=self.order_weight,
            lead=self.lead,
            decoys=(order[:, 0] + 1) % order.shape[1] if self.decoy else None,
            decoy_weight=self.decoy,
            ranking=None if victims is None else ranking(victims),
            ranking_weight=0.0 if self.maps is None else self.maps.weight,
        )

    def _lanes(self) -> int:
        if self.weights == "low-rank":
            return LANES
        parameters = dict(self.victim.named_parameters())
        size = sum(parameters[name].numel() for name in self.layers)
        return max(1, min(LANES, FLOATS // size))

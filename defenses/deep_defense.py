"""DeepDefense: every answer comes from a network of its own that learned to mislead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import nn

from defenses.contract import Answers, Defense, Material, Queries, Stage
from defenses.deep_defense_layers import candidates, most_sensitive
from defenses.deep_defense_misdirection import Form, Misdirection
from defenses.deep_defense_search import Plan
from defenses.errors import OptionError
from defenses.options import coerce
from models.simplex import one_hot, top1

__all__ = ["DeepDefenseProbabilities", "require"]

VICTIM = "victim"


class DeepDefenseProbabilities(Defense):
    """DD-S: for each query, weights whose gradients point elsewhere, and what they answer.

    "Model Stealing Defense against Exploiting Information Leak through the Interpretation of Deep
    Neural Nets" (Lee, Han and Lee, IJCAI 2022), sections 4.1 and 4.2; the variant of Table 5 that
    perturbs probabilities only. A copy of the victim's most sensitive layers is optimised until the
    gradient of its answer is orthogonal to the victim's, while the order of the top k classes stays
    (Eq. 8); the copy answers, and is thrown away. Maps are left as they are.

    Where this differs from the paper, which gives neither optimiser nor step count nor weights:

    - The search starts beside the victim's weights. At them the gradient of Eq. 5 is exactly zero.
    - A step that breaks the order is taken back and shortened, and classes are asked to lead by a
      little (``lead``); the penalty of Eq. 6 alone loses the label of many queries for good.
    - What leaves is verified. A query answers with its last iterate that keeps the order and whose
      cosine is at most ``turned``; one that has none is answered by its label alone.
    - All arithmetic is in float64: a search multiplies the float noise of a batch's size a
      millionfold, and the same query must get the same answer.

    Args:
        victim: the network that answers; its weights are read and never written.
        layers: names of the weights to change. A configuration may leave them out: the fewest
            that have ``sensitivity`` (default 0.9) of the cumulative sensitivity of Eq. 9, by the
            table in the bundle's card.
        k: how many classes keep their order, from 1 (the label) up.
        steps: of every search, 1 to 200.
        rate: Adam's learning rate, above 0 and at most 1.
        noise: relative size of the start, above 0 and at most 0.5.
        alpha: share of the bottom part (convolutions) in Eq. 5, in [0, 1].
        order_weight: lambda_1, at least 0.
        lead: by how much probability each of the top k is asked to lead, in [0, 0.5]; 0 in the
            paper.
        turned: the largest cosine that counts as misdirected, in (0, 1].
        decoy: weight of ``-log f~_d`` among the losses, at least 0, d the class after the label.
            0, the default, is the paper's method; above 0 is a variant of ours that chooses, among
            the misdirected answers, those that speak for one and the same wrong class besides.
        weights: ``low-rank`` factors, or the ``full`` copies of the paper.
        rank: of a convolution's factors, 1 to 64.
        early_stop: end when every query of a batch is turned to this cosine, in [0, 1]; the time it
            takes then tells. 0, the default, makes every step.

    Raises:
        OptionError: an option is out of range, or a layer is none that can be changed.
    """

    kind: ClassVar[str] = "dd-s"
    stage: ClassVar[Stage] = Stage.REPLACE
    roles: ClassVar[tuple[str, ...]] = (VICTIM,)
    looked_up: ClassVar[tuple[str, ...]] = ("sensitivity",)

    def __init__(
        self,
        *,
        victim: nn.Module,
        layers: tuple[str, ...],
        k: int = 1,
        steps: int = 20,
        rate: float = 3e-3,
        noise: float = 1e-2,
        alpha: float = 0.5,
        order_weight: float = 10.0,
        lead: float = 0.05,
        turned: float = 0.9,
        decoy: float = 0.0,
        weights: Form = "low-rank",
        rank: int = 4,
        early_stop: float = 0.0,
    ) -> None:
        require("k", k, k >= 1, "at least 1")
        require("steps", steps, 1 <= steps <= 200, "between 1 and 200")
        require("rate", rate, 0.0 < rate <= 1.0, "above 0 and at most 1")
        require("noise", noise, 0.0 < noise <= 0.5, "above 0 and at most 0.5")
        require("alpha", alpha, 0.0 <= alpha <= 1.0, "between 0 and 1")
        require("order_weight", order_weight, 0.0 <= order_weight <= 1e6, "between 0 and 1e6")
        require("lead", lead, 0.0 <= lead <= 0.5, "between 0 and 0.5")
        require("turned", turned, 0.0 < turned <= 1.0, "above 0 and at most 1")
        require("decoy", decoy, 0.0 <= decoy <= 1e6, "between 0 and 1e6")
        require("early_stop", early_stop, 0.0 <= early_stop <= 1.0, "between 0 and 1")
        require("rank", rank, 1 <= rank <= 64, "between 1 and 64")
        if weights not in ("low-rank", "full"):
            raise OptionError("weights", f"must be low-rank or full, not {weights!r}")
        _check_layers(victim, layers)
        self.misdirection = Misdirection(
            victim=victim,
            layers=layers,
            k=k,
            alpha=alpha,
            order_weight=order_weight,
            lead=lead,
            decoy=decoy,
            plan=Plan(steps, rate, noise, turned, early_stop),
            weights=weights,
            rank=rank,
        )
        self.timing_leak = early_stop > 0.0

    def apply(self, queries: Queries, answers: Answers) -> Answers:
        """What the misdirection networks say ``(B, K)``; no earlier link's answer is looked at."""
        if queries.victim.shape[0] == 0:
            return answers
        found = self.misdirection.find(queries.images, queries.victim, queries.seeds)
        label = one_hot(top1(queries.victim), queries.victim.shape[1])
        said = torch.where(found.good[:, None], found.answers, label)
        return replace(answers, probabilities=said, attributions=found.maps)

    def check(self, classes: int) -> None:
        """Refuse a k above ``classes``.

        Raises:
            OptionError: it is.
        """
        k = self.misdirection.k
        if k > classes:
            raise OptionError("k", f"must be at most the {classes} classes, not {k}")

    def options(self) -> dict[str, Any]:
        """Every option in effect; the layers however they were chosen."""
        used, plan = self.misdirection, self.misdirection.plan
        return {
            "layers": used.layers,
            "k": used.k,
            "steps": plan.steps,
            "rate": plan.rate,
            "noise": plan.noise,
            "alpha": used.alpha,
            "order_weight": used.order_weight,
            "lead": used.lead,
            "turned": plan.turned,
            "decoy": used.decoy,
            "weights": used.weights,
            "rank": used.rank,
            "early_stop": plan.early_stop,
        }

    @classmethod
    def resolve(cls, options: Mapping[str, Any], material: Material) -> Mapping[str, Any]:
        """Look up the layers that have ``sensitivity`` of the whole.

        Raises:
            OptionError: ``layers`` and ``sensitivity`` are both given, the bundle holds no table
                to choose by, or an ensemble answers, whose members would each need a choice.
        """
        card = material.card
        if len(card.members) > 1:
            raise OptionError("kind", f"{cls.kind} works on one network, and an ensemble answers")
        if "layers" in options:
            if "sensitivity" in options:
                raise OptionError("sensitivity", "give either layers or sensitivity, not both")
            return options
        share = coerce("sensitivity", options.get("sensitivity", 0.9), float)
        require("sensitivity", share, 0.0 < share <= 1.0, "above 0 and at most 1")
        if card.sensitivity is None:
            raise OptionError(
                "layers",
                f"the bundle {card.name}/{card.version} holds no sensitivities to choose layers "
                "by: train it again, or name the layers",
            )
        rest = {key: value for key, value in options.items() if key != "sensitivity"}
        return {**rest, "layers": most_sensitive(card.sensitivity.layers, share)}


def _check_layers(victim: nn.Module, layers: tuple[str, ...]) -> None:
    offered = candidates(victim)
    if not layers or len(set(layers)) != len(layers):
        raise OptionError("layers", f"must name one weight or more, each once, not {layers!r}")
    for name in layers:
        if name not in offered:
            raise OptionError(
                "layers", f"there is no weight {name!r} to change: there are {', '.join(offered)}"
            )


def require(option: str, value: float, holds: bool, bounds: str) -> None:
    """Refuse an option that is out of bounds.

    Raises:
        OptionError: names the option, its bounds and its value.
    """
    if not holds:
        raise OptionError(option, f"must be {bounds}, not {value}")

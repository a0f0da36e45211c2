"""Adaptive Misinformation: queries that look foreign are answered by another network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from defenses.contract import Answers, Defense, Interpret, Material, Output, Queries, Stage
from defenses.errors import OptionError
from defenses.options import coerce
from models.card import Calibration

__all__ = ["AdaptiveMisinformation"]

UNNOTICED = 1e-6
"""Weight of g below which an answer on a grid of 1e-5 changes only at a step's very edge."""


class AdaptiveMisinformation(Defense):
    """Blends in a misinformation network where the victim is not sure.

    ``v' = (1 - a) f(x) + a g(x)`` with ``a = sigmoid(nu (tau - max_k f(x)_k))``: "Defending
    Against Model Stealing Attacks with Adaptive Misinformation" (Kariyappa and Qureshi, CVPR
    2020), section 4. With a large nu this is a switch: a query whose top probability is below
    tau is answered by g alone. g was trained to be wrong, and confidently so.

    Constant-time by default: both networks see every query, whatever is decided. An attribution map
    is of the network that weighed more in the answer; both are asked for it. It does not keep the
    top-1.

    Args:
        misinformation: g, maps images ``(B, C, H, W)`` in [0, 1] to logits ``(B, K)``.
        threshold: tau in [0, 1]. A configuration may give ``benign_cost`` instead: the accuracy
            that honest callers may lose, as a share (0.01 is one point); the largest threshold
            of the bundle's calibration that costs no more is taken.
        steepness: nu, above 0; 1000 as in the paper (the authors' code uses 10000: no difference
            was measurable).
        skip: ask g only about rows that it can move by more than ``UNNOTICED``. Honest callers
            then pay for one network, and the time an answer takes tells whether g gave it: an
            attacker drops the answers that took long and keeps the true ones.

    Raises:
        OptionError: an option is out of range.
    """

    kind: ClassVar[str] = "am"
    stage: ClassVar[Stage] = Stage.REPLACE
    roles: ClassVar[tuple[str, ...]] = ("misinformation",)
    looked_up: ClassVar[tuple[str, ...]] = ("benign_cost",)
    keeps_top1 = False
    covers = frozenset({Output.PROBABILITIES, Output.ATTRIBUTIONS})

    def __init__(
        self,
        *,
        misinformation: nn.Module,
        threshold: float,
        steepness: float = 1000.0,
        skip: bool = False,
    ) -> None:
        if not 0.0 <= threshold <= 1.0:
            raise OptionError("threshold", f"must be between 0 and 1, not {threshold}")
        if not 0.0 < steepness <= 1e6:
            raise OptionError("steepness", f"must be above 0 and at most 1e6, not {steepness}")
        self._misinformation = misinformation
        self.threshold = threshold
        self.steepness = steepness
        self.skip = skip
        self.timing_leak = skip

    def apply(self, queries: Queries, answers: Answers) -> Answers:
        """The blend ``(B, K)``; what earlier links did is not looked at, so there are none."""
        said, weight = queries.victim, self._weight(queries)
        if not self.skip:
            return replace(answers, probabilities=self._blend(queries.images, said, weight))
        moved = weight[:, 0] > UNNOTICED
        blended = said.clone()
        if moved.any():
            blended[moved] = self._blend(queries.images[moved], said[moved], weight[moved])
        return replace(answers, probabilities=blended)

    def attribute(
        self, queries: Queries, classes: Tensor, maps: Tensor, interpret: Interpret
    ) -> Tensor:
        """The victim's map where its word counted for at least half, otherwise that of g."""
        wrong = interpret(self._misinformation, queries.images, classes)
        return torch.where(self._weight(queries)[:, :, None] > 0.5, wrong, maps)

    def _weight(self, queries: Queries) -> Tensor:
        confidence = queries.victim.max(dim=1, keepdim=True).values
        return torch.sigmoid(self.steepness * (self.threshold - confidence))

    def _blend(self, images: Tensor, said: Tensor, weight: Tensor) -> Tensor:
        wrong = torch.softmax(self._misinformation(images).to(torch.float32), dim=1)
        return (1.0 - weight) * said + weight * wrong

    def options(self) -> dict[str, Any]:
        """What is in effect, however it was chosen."""
        chosen: dict[str, Any] = {"threshold": self.threshold, "steepness": self.steepness}
        return {**chosen, "skip": True} if self.skip else chosen

    @classmethod
    def resolve(cls, options: Mapping[str, Any], material: Material) -> Mapping[str, Any]:
        """Look up the threshold that costs ``benign_cost``.

        Raises:
            OptionError: neither or both of ``threshold`` and ``benign_cost`` are given, the bundle
                holds no calibration, or no threshold is cheap enough.
        """
        if "benign_cost" not in options:
            if "threshold" not in options:
                raise OptionError("threshold", "am needs either threshold or benign_cost")
            return options
        if "threshold" in options:
            raise OptionError("benign_cost", "give either threshold or benign_cost, not both")
        cost = coerce("benign_cost", options["benign_cost"], float)
        if not 0.0 <= cost <= 0.5:
            raise OptionError(
                "benign_cost",
                f"must be a share of answers between 0 and 0.5 (0.01 is one point), not {cost}",
            )
        card = material.card
        calibration = card.calibrations.get(cls.kind)
        if calibration is None:
            raise OptionError(
                "benign_cost",
                f"the bundle {card.name}/{card.version} holds no calibration for am: "
                "train it with one, or give a threshold",
            )
        rest = {key: value for key, value in options.items() if key != "benign_cost"}
        return {**rest, "threshold": _costing(calibration, at_most=cost)}


def _costing(calibration: Calibration, *, at_most: float) -> float:
    """The largest threshold of the table whose benign cost is ``at_most`` (a share)."""
    costs = [calibration.reference - accuracy for accuracy in calibration.accuracies]
    # Costs are differences of shares that were counted: a rounding error must not exclude one.
    cheap = [
        threshold
        for threshold, cost in zip(calibration.thresholds, costs, strict=True)
        if cost <= at_most + 1e-9
    ]
    if not cheap:
        raise OptionError(
            "benign_cost",
            f"no calibrated threshold costs at most {at_most}: the cheapest costs "
            f"{min(costs):.4f} on {calibration.samples} images of {calibration.dataset}",
        )
    return max(cheap)

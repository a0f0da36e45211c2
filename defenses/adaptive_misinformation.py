"""Adaptive Misinformation: queries that look foreign are answered by another network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import nn

from defenses.contract import Answers, Defense, Material, Queries, Stage
from defenses.errors import OptionError
from defenses.options import coerce
from models.card import Calibration

__all__ = ["AdaptiveMisinformation"]


class AdaptiveMisinformation(Defense):
    """Blends in a misinformation network where the victim is not sure.

    ``v' = (1 - a) f(x) + a g(x)`` with ``a = sigmoid(nu (tau - max_k f(x)_k))``: "Defending
    Against Model Stealing Attacks with Adaptive Misinformation" (Kariyappa and Qureshi, CVPR
    2020), section 4. With a large nu this is a switch: a query whose top probability is below
    tau is answered by g alone. g was trained to be wrong, and confidently so.

    Constant-time: both networks see every query, whatever is decided. It does not cover
    attributions, and it does not keep the top-1.

    Args:
        misinformation: g, maps images ``(B, C, H, W)`` in [0, 1] to logits ``(B, K)``.
        threshold: tau in [0, 1]. A configuration may give ``benign_cost`` instead: the accuracy
            that honest callers may lose, as a share (0.01 is one point); the largest threshold
            of the bundle's calibration that costs no more is taken.
        steepness: nu, above 0; 1000 as in the paper (the authors' code uses 10000: no difference
            was measurable).

    Raises:
        OptionError: an option is out of range.
    """

    kind: ClassVar[str] = "am"
    stage: ClassVar[Stage] = Stage.REPLACE
    roles: ClassVar[tuple[str, ...]] = ("misinformation",)
    looked_up: ClassVar[tuple[str, ...]] = ("benign_cost",)
    keeps_top1 = False

    def __init__(
        self, *, misinformation: nn.Module, threshold: float, steepness: float = 1000.0
    ) -> None:
        if not 0.0 <= threshold <= 1.0:
            raise OptionError("threshold", f"must be between 0 and 1, not {threshold}")
        if not 0.0 < steepness <= 1e6:
            raise OptionError("steepness", f"must be above 0 and at most 1e6, not {steepness}")
        self._misinformation = misinformation
        self.threshold = threshold
        self.steepness = steepness

    def apply(self, queries: Queries, answers: Answers) -> Answers:
        """The blend ``(B, K)``; what earlier links did is not looked at, so there are none."""
        said = queries.victim
        confidence = said.max(dim=1, keepdim=True).values
        weight = torch.sigmoid(self.steepness * (self.threshold - confidence))
        wrong = torch.softmax(self._misinformation(queries.images).to(torch.float32), dim=1)
        return replace(answers, probabilities=(1.0 - weight) * said + weight * wrong)

    def options(self) -> dict[str, Any]:
        """``threshold`` and ``steepness``: what is in effect, however it was chosen."""
        return {"threshold": self.threshold, "steepness": self.steepness}

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

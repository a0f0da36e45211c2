"""Semi-supervised training: the part of the pool that nobody was asked about teaches, too."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import nn

from attack_client.adaptive.contract import Knowledge, Training, Tuition
from attack_client.adaptive.semi_supervised_objective import PseudoLabels, Rotations
from attack_client.checked_numbers import finite_number
from attack_client.errors import AdaptationError
from models.training.objective import Objective

__all__ = ["Method", "SemiSupervised"]

Method = Literal["rotation", "pseudo-labels"]


class SemiSupervised(Training):
    """Adds a term on unasked images to whatever the clone minimises.

    It depends less on answers, and so suffers less from bad ones: what it undoes is a small
    budget rather than a defense.

    Args:
        method: ``rotation`` tells by how many quarter turns an image was turned (S4L: Zhai et al.,
            ICCV 2019); ``pseudo-labels`` learns the clone's own confident labels on moved copies
            (FixMatch: Sohn et al., NeurIPS 2020).
        weight: of the term; 1 in the originals.
        threshold: of ``pseudo-labels``: the least top probability that is believed, in (0, 1).
    """

    kind: ClassVar[str] = "semi-supervised"
    needs_unasked: ClassVar[bool] = True

    def __init__(
        self, *, method: Method = "rotation", weight: float = 1.0, threshold: float = 0.95
    ) -> None:
        if method not in ("rotation", "pseudo-labels"):
            raise ValueError(f"method must be rotation or pseudo-labels, not {method!r}")
        if not finite_number("weight", weight) > 0.0:
            raise ValueError(f"weight must be above 0, not {weight}")
        if not 0.0 < finite_number("threshold", threshold) < 1.0:
            raise ValueError(f"threshold must be above 0 and below 1, not {threshold}")
        self.method: Method = method
        self.weight = weight
        self.threshold = threshold

    def teach(self, tuition: Tuition, knowledge: Knowledge) -> Tuition:
        """The objective of ``tuition`` with the term added.

        Raises:
            AdaptationError: there are no unasked images, or rotation needs square ones.
        """
        unasked = knowledge.unasked
        if unasked is None or not len(unasked):
            raise AdaptationError(f"{self.kind} needs images that were not asked about")
        if self.method == "rotation" and unasked.shape[2] != unasked.shape[3]:
            raise AdaptationError(f"{self.kind} by rotation needs square images")

        def objective(clone: nn.Module) -> Objective:
            inner = tuition.objective(clone)
            if self.method == "rotation":
                return Rotations(inner, clone, weight=self.weight, seed=knowledge.seed)
            return PseudoLabels(
                inner, clone, weight=self.weight, threshold=self.threshold, seed=knowledge.seed
            )

        return Tuition(f"{tuition.name} with {self!r}", objective, unasked)

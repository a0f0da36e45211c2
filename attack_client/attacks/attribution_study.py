"""Clones of one theft with maps: a row for every lambda, budget and kind of labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar

from attack_client.adaptive.contract import Seam
from attack_client.attacks.attribution_clone import train_attribution_clone
from attack_client.attacks.attribution_objective import Mirror
from attack_client.report.schema import Labels
from attack_client.scoring import score
from attack_client.study import Learnt, Lot, Material, Study

__all__ = ["AttributionStudy"]


class AttributionStudy(Study[Mirror]):
    """Trains a clone per lambda; the one of 0 is what the answers are worth without the maps.

    Args:
        mirrors: what to try, in any order; lambda 0 is always tried.
    """

    # How these clones learn is the attack itself.
    seams: ClassVar[frozenset[Seam]] = frozenset({Seam.ASKING, Seam.ANSWERS})

    def __init__(self, mirrors: Iterable[Mirror]) -> None:
        told = sorted({mirror for mirror in mirrors if mirror.weight > 0.0})
        self.mirrors = (Mirror(weight=0.0), *told)

    def plan(self, labels: tuple[Labels, ...]) -> Iterator[tuple[Labels, Mirror]]:
        """Every lambda for each kind of labels."""
        return ((kind, mirror) for kind in labels for mirror in self.mirrors)

    def learn(
        self, material: Material, lot: Lot, labels: Labels, variant: Mirror
    ) -> Learnt[Mirror]:
        """A clone under the name of its lambda."""
        campaign = material.campaign
        clone = train_attribution_clone(
            material.stolen,
            budget=lot.budget,
            labels=labels,
            recipe=campaign.recipe,
            mirror=variant,
            seed=campaign.seed,
            device=material.device,
            reporter=material.reporter(f"{variant.name} of {lot.budget:,} {labels} labels"),
            harvest=lot.harvest,
        )
        row = score(
            clone,
            material.stolen,
            lot.asked,
            labels=labels,
            recipe=campaign.recipe,
            examination=material.examination,
            seed=campaign.seed,
            device=material.device,
            attack=campaign.adaptations.title(variant.name),
        )
        return Learnt(variant, row)

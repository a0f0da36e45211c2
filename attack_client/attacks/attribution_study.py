"""Clones of one theft with maps: a row for every lambda, budget and kind of labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar

from attack_client.adaptive.contract import Seam
from attack_client.attacks.attribution_clone import train_attribution_clone
from attack_client.attacks.attribution_objective import MapMatching
from attack_client.report.schema import Labels
from attack_client.scoring import score
from attack_client.study import Learnt, Lot, Study, StudyMaterial

__all__ = ["AttributionStudy"]


class AttributionStudy(Study[MapMatching]):
    """Trains a clone per lambda; the one of 0 is what the answers are worth without the maps.

    Args:
        matchings: what to try, in any order; lambda 0 is always tried.
    """

    # How these clones learn is the attack itself.
    seams: ClassVar[frozenset[Seam]] = frozenset({Seam.ASKING, Seam.ANSWERS})

    def __init__(self, matchings: Iterable[MapMatching]) -> None:
        told = sorted({matching for matching in matchings if matching.weight > 0.0})
        self.matchings = (MapMatching(weight=0.0), *told)

    def plan(self, labels: tuple[Labels, ...]) -> Iterator[tuple[Labels, MapMatching]]:
        """Every lambda for each kind of labels."""
        return ((kind, matching) for kind in labels for matching in self.matchings)

    def learn(
        self, material: StudyMaterial, lot: Lot, labels: Labels, variant: MapMatching
    ) -> Learnt[MapMatching]:
        """A clone under the name of its lambda."""
        campaign = material.campaign
        clone = train_attribution_clone(
            material.stolen,
            budget=lot.budget,
            labels=labels,
            recipe=campaign.recipe,
            matching=variant,
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
            evaluation=material.evaluation,
            seed=campaign.seed,
            device=material.device,
            attack=campaign.adaptations.title(variant.name),
        )
        return Learnt(variant, row)

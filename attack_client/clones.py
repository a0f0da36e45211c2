"""A clone for each of the budgets and labels of a campaign: what most attacks end in."""

from __future__ import annotations

from collections.abc import Iterator

from attack_client.clone_cache import CloneCache
from attack_client.report import Labels
from attack_client.scoring import train_and_score
from attack_client.study import Learnt, Lot, Study, StudyMaterial

__all__ = ["Clones"]


class Clones(Study[None]):
    """A clone for each of the budgets and labels.

    Args:
        cache: of clones, where one is shared.
    """

    def __init__(self, cache: CloneCache | None = None) -> None:
        self._cache = CloneCache() if cache is None else cache

    def plan(self, labels: tuple[Labels, ...]) -> Iterator[tuple[Labels, None]]:
        """One for each kind of labels."""
        return ((kind, None) for kind in labels)

    def learn(
        self, material: StudyMaterial, lot: Lot, labels: Labels, variant: None
    ) -> Learnt[None]:
        """The clone that imitates what was harvested."""
        campaign = material.campaign
        adaptations = campaign.adaptations
        row = train_and_score(
            material.stolen,
            budget=lot.budget,
            labels=labels,
            recipe=campaign.recipe,
            evaluation=material.evaluation,
            seed=campaign.seed,
            device=material.device,
            cache=self._cache,
            reporter=material.reporter(f"clone of {lot.budget:,} {labels} labels"),
            harvest=lot.harvest,
            tuition=adaptations.tuition(material.knowledge),
            attack=adaptations.title(material.stolen.provenance.attack),
        )
        return Learnt(variant, row)

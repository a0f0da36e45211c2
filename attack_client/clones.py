"""A clone for each of the budgets and labels of a campaign: what most attacks end in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from rich.console import Console

from attack_client.adaptive.contract import Seam
from attack_client.adaptive.theft import gather_knowledge
from attack_client.clone_cache import CloneCache
from attack_client.progress import progress_of
from attack_client.report import Row
from attack_client.scoring import Examination, train_and_score
from attack_client.transfer_set import TransferSet
from models.datasets import Dataset

if TYPE_CHECKING:
    from attack_client.campaign import Campaign

__all__ = ["Clones"]


class Clones:
    """A clone for each of the budgets and labels.

    Args:
        cache: of clones, where one is shared.
    """

    seams = frozenset(Seam)

    def __init__(self, cache: CloneCache | None = None) -> None:
        self._cache = CloneCache() if cache is None else cache

    def check(self, source: Dataset, task: Dataset) -> None:
        """Any pool will do."""

    def rows(
        self,
        campaign: Campaign,
        stolen: TransferSet,
        source: Dataset,
        examination: Examination,
        *,
        device: torch.device,
        console: Console,
    ) -> tuple[Row, ...]:
        """A row per clone, budgets outside and labels inside."""
        adaptations = campaign.adaptations
        knowledge = gather_knowledge(campaign, stolen, source, device=device)
        tuition = adaptations.tuition(knowledge)
        rows = []
        for budget in campaign.budgets:
            harvest = adaptations.harvest(*stolen.prefix(budget), knowledge)
            for labels in campaign.labels:
                row = train_and_score(
                    stolen,
                    budget=budget,
                    labels=labels,
                    recipe=campaign.recipe,
                    examination=examination,
                    seed=campaign.seed,
                    device=device,
                    cache=self._cache,
                    reporter=progress_of(f"clone of {budget:,} {labels} labels", console),
                    harvest=harvest,
                    tuition=tuition,
                    attack=adaptations.title(stolen.provenance.attack),
                )
                rows.append(row)
        return tuple(rows)

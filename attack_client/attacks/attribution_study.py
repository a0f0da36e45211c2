"""Clones of one theft with maps: a row for every lambda, budget and kind of labels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from rich.console import Console

from attack_client.adaptive.contract import Seam
from attack_client.attacks.attribution_clone import train_attribution_clone
from attack_client.attacks.attribution_objective import Mirror
from attack_client.progress import progress_of
from attack_client.report.schema import Row
from attack_client.scoring import Examination, score
from attack_client.transfer_set import TransferSet
from models.datasets import Dataset

if TYPE_CHECKING:
    from attack_client.campaign import Campaign

__all__ = ["AttributionStudy"]


class AttributionStudy:
    """Trains a clone per lambda; the one of 0 is what the answers are worth without the maps.

    Args:
        mirrors: what to try, in any order; lambda 0 is always tried.
    """

    # Add-ons know nothing of maps, and would part them from their answers.
    seams: frozenset[Seam] = frozenset()

    def __init__(self, mirrors: Iterable[Mirror]) -> None:
        told = sorted({mirror for mirror in mirrors if mirror.weight > 0.0})
        self.mirrors = (Mirror(weight=0.0), *told)

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
        """A row per clone, under the name of its lambda."""
        rows = []
        for budget in campaign.budgets:
            images, _ = stolen.prefix(budget)
            for labels in campaign.labels:
                for mirror in self.mirrors:
                    what = f"{mirror.name} of {budget:,} {labels} labels"
                    clone = train_attribution_clone(
                        stolen,
                        budget=budget,
                        labels=labels,
                        recipe=campaign.recipe,
                        mirror=mirror,
                        seed=campaign.seed,
                        device=device,
                        reporter=progress_of(what, console),
                    )
                    rows.append(
                        score(
                            clone,
                            stolen,
                            images,
                            labels=labels,
                            recipe=campaign.recipe,
                            examination=examination,
                            seed=campaign.seed,
                            device=device,
                            attack=mirror.name,
                        )
                    )
        return tuple(rows)

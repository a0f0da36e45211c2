"""What is learnt from a transfer set: the loop over budgets and kinds of labels, written once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, final

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from typing_extensions import TypeVar

from attack_client.adaptive.contract import Harvest, Knowledge, Seam
from attack_client.adaptive.theft import gather_knowledge
from attack_client.progress import progress_of
from attack_client.report.schema import Labels, Row
from attack_client.scoring import Evaluation
from attack_client.transfer_set import TransferSet
from models.datasets import Dataset
from models.training.progress import Reporter

if TYPE_CHECKING:
    from attack_client.campaign import Campaign

__all__ = ["Learnt", "Lot", "Study", "StudyMaterial"]

Variant = TypeVar("Variant", default=Any)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StudyMaterial:
    """What every clone of a study is made of.

    Attributes:
        campaign: with its budgets known.
        stolen: open for reading, with the answers of the largest budget.
        source: the dataset whose training images are the pool.
        evaluation: against what clones are measured.
        knowledge: what add-ons may know.
        device: where clones are trained.
        console: told how far it is.
    """

    campaign: Campaign
    stolen: TransferSet
    source: Dataset
    evaluation: Evaluation
    knowledge: Knowledge
    device: torch.device
    console: Console

    def reporter(self, what: str) -> Reporter | None:
        """Told of a training, it shows how far ``what`` is."""
        return progress_of(what, self.console)


@dataclass(frozen=True, slots=True, eq=False)
class Lot:
    """One budget's part of a transfer set.

    Attributes:
        budget: queries.
        asked: ``(budget, C, H, W)`` uint8, the images that were asked about.
        answers: ``(budget, K)`` float32, as they were answered.
        harvest: what add-ons made of them; a clone learns from this.
    """

    budget: int
    asked: NDArray[np.uint8]
    answers: NDArray[np.float32]
    harvest: Harvest


@dataclass(frozen=True, slots=True)
class Learnt(Generic[Variant]):
    """One clone, measured.

    Attributes:
        variant: what it is a clone of its study by.
        row: of the report.
        validation: accuracy on what was held out; None where nothing was, or nothing is known.
        held: images held out for it.
    """

    variant: Variant
    row: Row
    validation: float | None = None
    held: int = 0


class Study(ABC, Generic[Variant]):
    """Clones of one transfer set. An author writes ``plan`` and ``learn``."""

    seams: ClassVar[frozenset[Seam]] = frozenset(Seam)
    """Which add-ons it honours: with others, nothing is asked."""

    def check(self, source: Dataset, task: Dataset) -> None:
        """Refuse what cannot be studied, before the first query; by default nothing.

        Raises:
            AttackError: says why.
        """
        del source, task

    @abstractmethod
    def plan(self, labels: tuple[Labels, ...]) -> Iterator[tuple[Labels, Variant]]:
        """The clones of one budget, in the order of the report."""

    @abstractmethod
    def learn(
        self, material: StudyMaterial, lot: Lot, labels: Labels, variant: Variant
    ) -> Learnt[Variant]:
        """Train one clone and measure it."""

    def conclude(self, material: StudyMaterial, learnt: Sequence[Learnt[Variant]]) -> None:
        """Told of every clone at the end; by default there is nothing to say."""

    @final
    def rows(
        self,
        campaign: Campaign,
        stolen: TransferSet,
        source: Dataset,
        evaluation: Evaluation,
        *,
        device: torch.device,
        console: Console,
    ) -> tuple[Row, ...]:
        """One row per clone, budgets outside. The pool are the training images of ``source``."""
        material = StudyMaterial(
            campaign=campaign,
            stolen=stolen,
            source=source,
            evaluation=evaluation,
            knowledge=gather_knowledge(campaign, stolen, source, device=device),
            device=device,
            console=console,
        )
        learnt = []
        for budget in campaign.budgets:
            asked, answers = stolen.prefix(budget)
            harvest = campaign.adaptations.harvest(asked, answers, material.knowledge)
            lot = Lot(budget, asked, answers, harvest)
            for labels, variant in self.plan(campaign.labels):
                learnt.append(self.learn(material, lot, labels, variant))
        self.conclude(material, learnt)
        return tuple(each.row for each in learnt)

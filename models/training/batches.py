"""The batches of one epoch, in the order that the plan's seed decides."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from models.training.augmentation import augmented
from models.training.data import TrainingData, to_unit
from models.training.objective import Batch
from models.training.order import epoch_batches, generator, ood_batches
from models.training.plan import Plan
from models.training.team import ALONE, Team

__all__ = ["batches"]


def batches(
    data: TrainingData,
    plan: Plan,
    epoch: int,
    *,
    device: torch.device | str,
    team: Team = ALONE,
) -> Iterator[Batch]:
    """The batches of epoch ``epoch`` (from 1), on ``device``; each of its images occurs once.

    Where ``data`` holds out-of-distribution images, every batch carries as many of them as it has
    images; they are cycled in an order of their own. Paired images are moved as their images are.
    A process of a team is given its share of every batch.
    """
    layout = torch.channels_last if plan.channels_last else torch.contiguous_format

    def prepared(images: Tensor, draws: torch.Generator) -> Tensor:
        # Draws are made for the whole batch, so that they do not depend on the size of the team.
        moved = augmented(images, plan.augment, draws)[team.share(len(images))]
        return to_unit(moved, device).contiguous(memory_format=layout)

    drawn = epoch_batches(data.shown, plan.steps(data.shown), plan.seed, epoch)
    order = tuple(batch + data.first(epoch) for batch in drawn)
    strangers = (
        [None] * len(order)
        if data.ood is None
        else ood_batches(len(data.ood), order, plan.seed, epoch)
    )
    for step, (chosen, others) in enumerate(zip(order, strangers, strict=True)):
        draws = generator(plan.seed, "augment", epoch, step)
        yield Batch(
            images=prepared(data.images[chosen], draws),
            targets=data.targets[chosen][team.share(len(chosen))].to(device, non_blocking=True),
            ood=None if data.ood is None else prepared(data.ood[others], draws),
            # The same draws again, hence the same crop and flip.
            paired=None
            if data.paired is None
            else prepared(data.paired[chosen], generator(plan.seed, "augment", epoch, step)),
            done=epoch - 1 + step / len(order),
        )

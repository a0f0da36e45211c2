"""Add-ons within a campaign: checked before it asks, and given what they may know after."""

from __future__ import annotations

import asyncio
import zlib
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from attack_client.adaptive.contract import Knowledge, Training
from attack_client.contract import Attack
from attack_client.errors import AdaptationError
from attack_client.transfer_set import TransferSet
from attack_client.victim_input import as_pool
from models.datasets import Dataset

if TYPE_CHECKING:
    from attack_client.campaign import Campaign
    from attack_client.study import Study

__all__ = ["adaptation_seed", "check_adaptations", "gather_knowledge", "unasked"]


def adaptation_seed(seed: int) -> int:
    """The seed of what add-ons draw: it depends on nothing but the attack's."""
    return zlib.crc32(f"adaptation {seed}".encode())


def check_adaptations(campaign: Campaign, study: Study, attack: Attack, *, pool: int) -> None:
    """Refuse add-ons that this campaign cannot have, before it asks.

    Args:
        campaign: with its budgets known.
        study: what is learnt.
        attack: that is made, without add-ons.
        pool: images in the surrogate pool.

    Raises:
        AdaptationError: says which add-on, and why.
    """
    adaptations = campaign.adaptations
    adaptations.check(
        labels=campaign.labels,
        budgets=campaign.budgets,
        pool=pool,
        known=campaign.known is not None,
        shadow=campaign.shadow is not None,
    )
    if not adaptations:
        return
    for add_on in adaptations.add_ons:
        if isinstance(add_on, Training) and add_on.needs_unasked and attack.seeds_only:
            raise AdaptationError(
                f"{add_on.kind} learns from images of the pool that were not asked about, but "
                f"{campaign.attack}'s pool is the victim's own data, of which an attacker has only "
                "the seeds"
            )
        if add_on.seam not in study.seams:
            raise AdaptationError(
                f"{campaign.attack} learns in a way of its own, to which {add_on.kind} "
                "cannot be added"
            )


def gather_knowledge(
    campaign: Campaign, stolen: TransferSet, source: Dataset, *, device: torch.device
) -> Knowledge:
    """What the add-ons of ``campaign`` may know; asks the shadow service where there is one.

    Args:
        campaign: names the defense and the shadow.
        stolen: open for reading, with the answers of the largest budget.
        source: the dataset of the surrogate pool.
        device: where add-ons train.

    Raises:
        AdaptationError: the known defense cannot be loaded.
        VictimError: the shadow service does not answer.
    """
    about, adaptations = stolen.provenance, campaign.adaptations
    images, _ = stolen.prefix(campaign.budgets[-1])
    shadow = None
    if campaign.shadow is not None:
        shadow = asyncio.run(campaign.shadow.ask(images))
    rest = None
    if any(isinstance(one, Training) and one.needs_unasked for one in adaptations.add_ons):
        rest = unasked(as_pool(source, about.shape).images, images)
    return Knowledge(
        classes=about.classes,
        seed=adaptation_seed(campaign.seed),
        device=device,
        known=None if campaign.known is None else campaign.known.load(about.classes),
        shadow=shadow,
        unasked=rest,
    )


def unasked(pool: NDArray[np.uint8], asked: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images of ``pool`` ``(N, C, H, W)`` that are not among ``asked``, in order."""
    known = {image.tobytes() for image in asked}
    return pool[[image.tobytes() not in known for image in pool]]

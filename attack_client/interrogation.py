"""Everything of a campaign that touches the victim, as two callers: a thief and an honest one."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import torch
from rich.console import Console

from attack_client.callers import as_caller, as_thief
from attack_client.contract import Attack
from attack_client.honest import Honest, measure_honest
from attack_client.honest_store import honest_digest, keep_honest, kept_honest
from attack_client.http_victim import HttpVictim
from attack_client.preflight import check_clone
from attack_client.progress import watch_queries, watch_theft
from attack_client.reference import Reference, check_fits
from attack_client.scoring import Evaluation
from attack_client.theft import steal
from attack_client.transfer_files import TRANSFER
from attack_client.transfer_set import TransferSet
from attack_client.victim_input import TestSet, as_pool
from models.bundle import Bundle
from models.datasets import Dataset

if TYPE_CHECKING:
    from attack_client.campaign import Campaign

__all__ = ["interrogate"]


async def interrogate(
    campaign: Campaign,
    attack: Attack,
    source: Dataset,
    task: Dataset,
    plain: Bundle | None,
    *,
    honest: Honest | None,
    device: torch.device,
    console: Console,
) -> tuple[TransferSet, Evaluation]:
    """Steal, and measure what honest callers are served.

    Both keys are used, and all that the rows need besides answers is made, before anything is
    paid for.

    Args:
        campaign: with its budgets known.
        attack: add-ons included.
        source: the dataset whose training images are the pool.
        task: the dataset whose test images are the victim's own task.
        plain: the plain model, where it is at hand.
        honest: what honest callers are served, where it was measured already.
        device: where the plain model answers.
        console: told how far it is.

    Returns:
        The transfer set, open for reading, and against what clones of it are measured.

    Raises:
        AttackError: the theft or the measurement cannot go on.
    """
    operator_key = campaign.operator_key or campaign.api_key
    async with (
        as_thief(campaign) as victim,
        as_caller(campaign, operator_key) as operated,
    ):
        shape, classes = victim.facts.shape, victim.facts.classes
        check_clone(campaign.recipe, shape=shape, classes=classes)
        if campaign.known is not None:
            campaign.known.load(classes)
        if campaign.shadow is not None:
            await campaign.shadow.check(victim.facts)
        if plain is None:
            test, reference = TestSet.of(task, shape=shape, classes=classes), None
        else:
            check_fits(plain.card, shape=shape, classes=classes)
            test = TestSet.of(task, shape=shape, classes=classes, spec=plain.card.input)
            reference = Reference.of(plain, test, device=device)
        with watch_theft(console) as watch:
            stolen = await steal(
                victim,
                as_pool(source, shape),
                attack,
                budget=campaign.budgets[-1],
                out=campaign.out / TRANSFER,
                resume=campaign.resume,
                moved=campaign.moved,
                batch=campaign.batch,
                concurrency=campaign.concurrency,
                watch=watch,
            )
        try:
            if honest is None and campaign.honest_queries:
                honest = await _honest(campaign, operated, test, stolen.provenance.id, console)
        except BaseException:
            stolen.close()
            raise
    return stolen, Evaluation(
        test=test,
        honest=honest,
        reference=reference,
        defense=campaign.defense,
        price_per_thousand=campaign.price_per_thousand,
    )


async def _honest(
    campaign: Campaign, operated: HttpVictim, test: TestSet, theft: uuid.UUID, console: Console
) -> Honest:
    """What honest callers are served; of a run that goes on, what it knew already."""
    digest = honest_digest(
        campaign.url, campaign.model, test, latency_requests=campaign.latency_requests
    )
    place = campaign.out / "honest" / f"{digest}.npz"
    known = kept_honest(place) if campaign.resume else None
    if known is not None:
        return known
    with watch_queries(console, "honest queries") as advance:
        found = await measure_honest(
            operated,
            test,
            latency_requests=campaign.latency_requests,
            batch=campaign.batch,
            concurrency=campaign.concurrency,
            run=theft,
            watch=advance,
        )
    keep_honest(place, found)
    return found

"""Everything of a campaign that touches the victim, as two callers: a thief and an honest one."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from rich.console import Console

from attack_client.callers import as_caller, as_thief
from attack_client.contract import Attack, BlackBox
from attack_client.errors import VictimError
from attack_client.honest import Honest, measure_honest, time_again
from attack_client.honest_allowance import check_bearable, check_bearable_now, still_to_ask
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

__all__ = ["Interrogated", "interrogate"]


@dataclass(frozen=True, slots=True, eq=False)
class Interrogated:
    """What a campaign got of its victim.

    Attributes:
        stolen: the transfer set, open for reading.
        evaluation: against what clones of it are measured.
        unmeasured: why it is not known what honest callers are served, where that was to be known.
    """

    stolen: TransferSet
    evaluation: Evaluation
    unmeasured: VictimError | None = None


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
) -> Interrogated:
    """Steal, and measure what honest callers are served.

    Both keys are used, and all that the rows need besides answers is made, before anything is
    paid for. A theft that is done is not lost where honest queries then get no answer.

    Args:
        campaign: with its budgets known.
        attack: add-ons included.
        source: the dataset whose training images are the pool.
        task: the dataset whose test images are the victim's own task.
        plain: the plain model, where it is at hand.
        honest: what honest callers are served, where it was measured already.
        device: where the plain model answers.
        console: told how far it is.

    Raises:
        AttackError: the theft cannot go on, or could never be measured.
    """
    operator_key = campaign.operator_key or campaign.api_key
    async with (
        as_thief(campaign) as victim,
        as_caller(campaign, operator_key) as operated,
    ):
        shape, classes = victim.facts.shape, victim.facts.classes
        most = victim.facts.images_per_request(campaign.batch)
        if most < campaign.batch:
            console.print(
                f"the model's metadata says a batch of {most}: --batch {campaign.batch} is lowered",
                highlight=False,
            )
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
        place = _place(campaign, test)
        untimed = None
        if honest is None and campaign.honest_queries and campaign.resume:
            honest = kept_honest(place)
            untimed = honest if honest is not None and honest.untimed else None
        wanted = honest is None and campaign.honest_queries
        stolen_before = wanted and campaign.resume and not _still_to_ask(campaign)
        if wanted and not stolen_before:
            note = await _check_bearable(campaign, attack, victim, operated, test)
            if note is not None:
                console.print(note, highlight=False, markup=False)
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
        unmeasured = None
        try:
            if wanted:
                honest = await _honest(
                    campaign,
                    operated,
                    test,
                    stolen.provenance.id,
                    console,
                    harmless=stolen_before,
                )
                keep_honest(place, honest)
            elif untimed is not None:
                honest = await _timed_again(campaign, operated, test, untimed, console)
                keep_honest(place, honest)
        except VictimError as error:
            unmeasured = error
        except BaseException:
            stolen.close()
            raise
    evaluation = Evaluation(
        test=test,
        honest=honest,
        reference=reference,
        defense=campaign.defense,
        price_per_thousand=campaign.price_per_thousand,
    )
    return Interrogated(stolen, evaluation, unmeasured)


def _place(campaign: Campaign, test: TestSet) -> Path:
    """Where it is kept what honest callers are served."""
    digest = honest_digest(
        campaign.url, campaign.model, test, latency_requests=campaign.latency_requests
    )
    return campaign.out / "honest" / f"{digest}.npz"


def _still_to_ask(campaign: Campaign) -> int:
    """Answers that the theft lacks."""
    return still_to_ask(campaign.out / TRANSFER, campaign.budgets[-1], resume=campaign.resume)


async def _check_bearable(
    campaign: Campaign,
    attack: Attack,
    victim: BlackBox,
    operated: HttpVictim,
    test: TestSet,
) -> str | None:
    """Refuse honest queries that their key can never pay for; what it cannot pay for today."""
    theft = None
    shared = campaign.operator_key in (None, campaign.api_key)
    if shared and campaign.adaptations.accounts is None:
        cost = victim.facts.map_cost if attack.explains else 1
        theft = cost * _still_to_ask(campaign)
    return check_bearable(
        await operated.allowance(),
        images=len(test.images),
        latency_requests=campaign.latency_requests,
        theft=theft,
    )


async def _honest(
    campaign: Campaign,
    operated: HttpVictim,
    test: TestSet,
    theft: uuid.UUID,
    console: Console,
    *,
    harmless: bool,
) -> Honest:
    """What honest callers are served."""
    note = check_bearable_now(
        await operated.allowance(),
        images=len(test.images),
        latency_requests=campaign.latency_requests,
        harmless=harmless,
    )
    if note is not None:
        console.print(note, highlight=False, markup=False)
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
    _tell_of_latency(found, console)
    return found


async def _timed_again(
    campaign: Campaign, operated: HttpVictim, test: TestSet, honest: Honest, console: Console
) -> Honest:
    """``honest`` with a latency, which an earlier command could not measure; without if need be.

    A report is whole without one, so that nothing here ends in an error.
    """
    try:
        check_bearable_now(
            await operated.allowance(), images=0, latency_requests=campaign.latency_requests
        )
        with watch_queries(console, "latency") as advance:
            found = await time_again(
                operated,
                test,
                honest,
                latency_requests=campaign.latency_requests,
                watch=advance,
            )
    except VictimError as error:
        console.print(f"no latency is reported: {error}", highlight=False, markup=False)
        return honest
    _tell_of_latency(found, console)
    return found


def _tell_of_latency(honest: Honest, console: Console) -> None:
    if honest.untimed:
        console.print(
            f"no latency is reported: {honest.disturbed:,} single-image requests had to be sent "
            "again, for a limit of the key or a full server",
            highlight=False,
        )

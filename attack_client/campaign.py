"""A whole attack from the command line: steal once, train many clones, write one report."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from attack_client.adaptive.adaptations import Adaptations
from attack_client.adaptive.known import KnownDefense
from attack_client.adaptive.shadow import ShadowService
from attack_client.adaptive.spec import Spec
from attack_client.adaptive.theft import check_adaptations
from attack_client.attacks.registry import make
from attack_client.clone import CloneRecipe
from attack_client.clone_cache import CloneCache
from attack_client.clones import Clones
from attack_client.errors import HonestUnmeasured, TransferSetExists, VictimError
from attack_client.honest import Honest
from attack_client.interrogation import interrogate
from attack_client.preflight import (
    check_epochs,
    check_holdout,
    check_schedule,
    choose_split_seed,
    in_epochs,
)
from attack_client.progress import progress_of
from attack_client.reference import check_labels
from attack_client.report import (
    REPORT,
    Labels,
    Report,
    Row,
    Theft,
    describe_command,
    describe_environment,
    render_table,
    with_earlier_rows,
    write_report,
)
from attack_client.study import Study
from attack_client.theft_identity import identify
from attack_client.transfer_files import TRANSFER
from attack_client.transfer_set import TransferSet
from models import architectures
from models.bundle import open_bundle
from models.console import print_table
from models.datasets import load as load_dataset
from models.training.device import choose_device

__all__ = ["Campaign", "Study", "collect_rows", "progress_of", "run_campaign"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """What to do; every field is a flag of ``intaglio attack``.

    Attributes:
        url: the victim's server.
        model: its name there.
        attack: kind of attack.
        options: hyper-parameters of the attack.
        pool: dataset whose training images are the surrogate pool.
        test: dataset whose test images are the victim's own task.
        budgets: increasing; the largest is stolen, the others are prefixes of it. None at all is
            one of the whole pool.
        labels: ``soft``, ``hard`` or both.
        recipe: of the clones.
        out: directory of the transfer set and the report.
        api_key: the thief's.
        operator_key: for honest queries; the thief's where there is none.
        resume: go on with the transfer set in ``out``.
        moved: the victim may be at another URL than when it was begun.
        data_root: where datasets lie.
        batch: images per request.
        concurrency: requests in flight.
        timeout_s: for connecting, and for every read and write.
        patience_s: waits between the attempts of one request, however many those are; None is what
            ``RetryPolicy`` has, which limits the attempts, too.
        seed: of the attack and the clones.
        split_seed: of datasets that come without a split; None is the reference's, or 0.
        reference: bundle of the plain model, where it is at hand.
        defense: what the report calls the victim's defense.
        shape: input shape, where the model leaves it open.
        softmax: the model answers with logits.
        honest_queries: ask about the whole test set as an honest caller would, once; without it the
            report does not know what honest callers are served.
        latency_requests: single-image requests to time.
        price_per_thousand: of a thousand queries, for the report.
        device: where clones are trained: ``auto``, ``cpu`` or ``cuda:N``.
        command: for the report.
        adapt: add-ons, in order.
        known: the victim's defense as a function, for add-ons that invert it.
        shadow: the attacker's own copy of the service, for the same.
    """

    url: str
    model: str
    attack: str
    options: Mapping[str, Any] = field(default_factory=dict)
    pool: str
    test: str
    budgets: tuple[int, ...]
    labels: tuple[Labels, ...]
    recipe: CloneRecipe
    out: Path
    api_key: str | None = field(default=None, repr=False)
    operator_key: str | None = field(default=None, repr=False)
    resume: bool = False
    moved: bool = False
    data_root: Path | None = None
    batch: int = 64
    concurrency: int = 4
    timeout_s: float = 60.0
    patience_s: float | None = None
    seed: int = 0
    split_seed: int | None = None
    reference: Path | None = None
    defense: str | None = None
    shape: tuple[int, int, int] | None = None
    softmax: bool = False
    honest_queries: bool = True
    latency_requests: int = 200
    price_per_thousand: float | None = None
    device: str = "auto"
    command: Sequence[str] = ()
    adapt: tuple[Spec, ...] = ()
    known: KnownDefense | None = None
    shadow: ShadowService | None = None

    @property
    def adaptations(self) -> Adaptations:
        """The add-ons, made.

        Raises:
            AdaptationError: one is unknown or refuses an option, or they do not go together.
        """
        return Adaptations.of(self.adapt, seed=self.seed)


def run_campaign(campaign: Campaign, console: Console, study: Study | None = None) -> Report:
    """Do all of it; returns what was also written to ``report.json``, ``.md``, ``.html``.

    Rows that are there already of the same theft, and are not measured again, are kept.

    Args:
        campaign: what to do.
        console: told how far it is.
        study: what is learnt; by default a clone for each of the budgets and labels.

    Raises:
        HonestUnmeasured: all is written, but not what honest callers are served: nobody answered.
        AttackError: the theft cannot go on.
        ModelsError: a dataset, a bundle or an architecture is not what it should be.
    """
    collected = _collect(campaign, console, study)
    report = Report(
        command=describe_command(campaign.command),
        environment=describe_environment(str(choose_device(campaign.device))),
        rows=collected.rows,
        theft=collected.theft,
    )
    report, note = with_earlier_rows(report, campaign.out / REPORT)
    if note is not None:
        console.print(note, highlight=False, markup=False)
    title = campaign.adaptations.title(campaign.attack)
    title = f"{campaign.model}: {title if report.rows == collected.rows else campaign.attack}"
    write_report(report, campaign.out, title=title)
    print_table(console, render_table(report.rows, title=title))
    if collected.unmeasured is not None:
        raise HonestUnmeasured(
            f"the report in {campaign.out} is written, with dashes for what honest callers are "
            f"served, because honest queries failed: {collected.unmeasured}; to measure it later, "
            "give the same command and --resume, and an --operator-key where this key may ask no "
            "more"
        ) from collected.unmeasured
    return report


@dataclass(frozen=True, slots=True)
class _Collected:
    """Rows, of which theft they are, and why they do not know what honest callers are served."""

    rows: tuple[Row, ...]
    theft: Theft
    unmeasured: VictimError | None


def collect_rows(
    campaign: Campaign,
    console: Console,
    study: Study | None = None,
    *,
    honest: Honest | None = None,
    cache: CloneCache | None = None,
) -> tuple[Row, ...]:
    """Steal, measure and learn: a row per clone, and nothing written but the transfer set.

    Args:
        campaign: what to do.
        console: told how far it is.
        study: what is learnt; by default a clone for each of the budgets and labels.
        honest: what honest callers are served, where it was measured already.
        cache: of clones, where one is shared.

    Raises:
        AttackError: the theft or the measurement cannot go on.
        ModelsError: a dataset, a bundle or an architecture is not what it should be.
    """
    collected = _collect(campaign, console, study, honest=honest, cache=cache)
    if collected.unmeasured is not None:
        raise collected.unmeasured
    return collected.rows


def _collect(
    campaign: Campaign,
    console: Console,
    study: Study | None = None,
    *,
    honest: Honest | None = None,
    cache: CloneCache | None = None,
) -> _Collected:
    adaptations = campaign.adaptations
    device = choose_device(campaign.device)
    plainly = make(
        campaign.attack,
        seed=campaign.seed,
        options=campaign.options,
        surroundings={
            "clone": campaign.recipe.architecture,
            "labels": "hard" if campaign.labels == ("hard",) else "soft",
            "device": str(device),
            "allow_factories": campaign.recipe.allow_factories,
        },
    )
    campaign = replace(campaign, recipe=in_epochs(campaign.recipe, plainly.per_epoch))
    attack = adaptations.adapt(plainly)
    for architecture in (campaign.recipe.architecture, *plainly.architectures):
        architectures.check(architecture, allow_factories=campaign.recipe.allow_factories)
    out = campaign.out / TRANSFER
    if not campaign.resume and TransferSet.begun(out):
        raise TransferSetExists(
            f"{out} already holds a transfer set: go on with --resume, or choose another --out"
        )
    plain = None
    if campaign.reference is not None:
        plain = open_bundle(campaign.reference, allow_factories=campaign.recipe.allow_factories)
    split_seed = choose_split_seed(
        campaign.split_seed, test=campaign.test, reference=None if plain is None else plain.card
    )
    source = load_dataset(campaign.pool, root=campaign.data_root, split_seed=split_seed)
    task = load_dataset(campaign.test, root=campaign.data_root, split_seed=split_seed)
    if plain is not None:
        check_labels(plain.card, task.labels, test=campaign.test)
    everything = len(source.train_images) * adaptations.per_image
    campaign = replace(campaign, budgets=campaign.budgets or (everything,))
    check_holdout(campaign.recipe, campaign.budgets, per_image=adaptations.per_image)
    check_epochs(campaign.recipe, campaign.budgets, adapted=bool(adaptations))
    check_schedule(campaign.recipe, campaign.budgets, per_image=adaptations.per_image)
    study = study or Clones(cache)
    check_adaptations(campaign, study, plainly, pool=len(source.train_images))
    study.check(source, task)
    found = asyncio.run(
        interrogate(
            campaign,
            attack,
            source,
            task,
            plain,
            honest=honest,
            device=device,
            console=console,
        )
    )
    with found.stolen as stolen:
        theft = identify(
            stolen.provenance,
            found.evaluation.test,
            plain,
            recipe=campaign.recipe,
            known=campaign.known,
            shadow=campaign.shadow,
        )
        rows = study.rows(
            campaign, stolen, source, found.evaluation, device=device, console=console
        )
    per_image = adaptations.per_image

    def published(budget: int) -> int | None:
        """What the published code would have paid for as many images, as often asked about."""
        images = plainly.published_queries(budget // per_image)
        return None if images is None else per_image * images

    def told(row: Row) -> str:
        """The row's attack, and what steered it where that is not what the clone learnt from."""
        other = plainly.steered_by not in (None, row.labels)
        return f"{row.attack} (steered by {plainly.steered_by} answers)" if other else row.attack

    return _Collected(
        rows=tuple(
            row.model_copy(update={"attack": told(row), "published_queries": published(row.budget)})
            for row in rows
        ),
        theft=theft,
        unmeasured=found.unmeasured,
    )

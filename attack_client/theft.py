"""A theft from the first query to the last: victim, pool, attack and budget to transfer set."""

from __future__ import annotations

from pathlib import Path

from attack_client.contract import Attack, BlackBox, Pool
from attack_client.errors import PoolError
from attack_client.oracle import BudgetedOracle, Tally, Watch
from attack_client.provenance import Provenance
from attack_client.query_allowance import Metered, Purse
from attack_client.transfer_set import TransferSet

__all__ = ["steal"]


async def steal(
    victim: BlackBox,
    pool: Pool,
    attack: Attack,
    *,
    budget: int,
    out: Path,
    resume: bool = False,
    moved: bool = False,
    batch: int = 64,
    concurrency: int = 4,
    watch: Watch | None = None,
) -> TransferSet:
    """Run ``attack`` against ``victim`` until ``budget`` queries are spent.

    Args:
        victim: who is asked; must already be open.
        pool: images in the victim's input shape.
        attack: chooses among them.
        budget: queries to spend in all, those of an interrupted run included.
        out: directory of the transfer set.
        resume: go on with the transfer set in ``out``, if there is one. A larger budget than
            before extends it.
        moved: the victim may be at another URL than when the transfer set was begun; without it
            that is taken for another victim.
        batch: images per request at most; the victim's own limit, where it announces one, holds.
        concurrency: requests in flight at most.
        watch: told about every request.

    Returns:
        The transfer set, open for reading. One that holds the whole budget is not asked for again.

    Raises:
        AttackError: the first reason why the theft could not go on. What was answered until then
            is on disk; running again with ``resume`` goes on from there.
    """
    if pool.images.shape[1:] != victim.facts.shape:
        raise PoolError(
            f"pool {pool.name} has images of shape {pool.images.shape[1:]}, "
            f"the victim is shown {victim.facts.shape}"
        )
    provenance = Provenance.of(victim.facts, pool, attack)
    resuming = resume and TransferSet.begun(out)
    if resuming and moved:
        begun = TransferSet.provenance_of(out)
        provenance = provenance.model_copy(update={"url": begun.url})
    begin = TransferSet.resume if resuming else TransferSet.create
    with begin(out, provenance) as transfer_set:
        if transfer_set.complete >= budget:
            # Nothing is left to ask. An attack that trains as it asks would train for nothing, and
            # on another machine it would not choose the very same images.
            if watch is not None:
                watch(Tally(budget, had=budget, replayed=budget, repaired=transfer_set.repaired))
            return TransferSet.read(out)
        purse = None
        if isinstance(victim, Metered):
            purse = Purse(await victim.allowance(), victim.allowance)
        oracle = BudgetedOracle(
            victim,
            transfer_set,
            budget=budget,
            batch=victim.facts.images_per_request(batch),
            concurrency=concurrency,
            repeats=attack.repeats,
            purse=purse,
            watch=watch,
        )
        try:
            await attack.run(oracle, pool)
        except BaseExceptionGroup as group:
            # An attack may ask from several tasks; the reason they share is what a person needs.
            raise _first(group) from group
    return TransferSet.read(out)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first

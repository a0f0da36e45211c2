"""Budgets and idempotency keys: the same promises in memory, in a file and in Redis."""

from __future__ import annotations

import asyncio

import pytest

from server.callers.ledger import Again, Charged, Pending, Stored
from server.callers.ledger_file import FileLedger
from server.callers.ledger_memory import MemoryLedger
from server.errors import CallerOverLimit, Conflict
from tests.server.callers.ledgers import B, Open, charge, once, until, used

pytestmark = pytest.mark.anyio


async def test_charges_add_up_by_caller(opened: Open) -> None:
    async with opened() as ledger:
        assert await used(ledger) == (0, 0)
        assert await ledger.charge(charge(3)) == Charged(3, 3)
        assert await ledger.charge(charge(4)) == Charged(7, 7)
        assert await ledger.charge(charge(5, identity=B)) == Charged(5, 5)
        assert await used(ledger) == (7, 7)
        assert await used(ledger, B) == (5, 5)


@pytest.mark.parametrize("budget", ["per_day", "lifetime"])
async def test_a_budget_is_used_to_the_last_sample_and_no_further(
    opened: Open, budget: str
) -> None:
    async with opened() as ledger:
        await ledger.charge(charge(90, **{budget: 100}))
        for _ in range(3):
            with pytest.raises(CallerOverLimit, match=r"has 10 left.*counts as 11") as refused:
                await ledger.charge(charge(11, **{budget: 100}))
            waits = refused.value.retry_after
            assert waits is None if budget == "lifetime" else 0 < (waits or 0) <= 86_400
        await ledger.charge(charge(10, **{budget: 100}))
        with pytest.raises(CallerOverLimit):
            await ledger.charge(charge(1, **{budget: 100}))
        assert await used(ledger) == (100, 100)


async def test_callers_at_once_never_get_more_than_the_budget(opened: Open) -> None:
    async with opened() as ledger:
        outcomes = await asyncio.gather(
            *(ledger.charge(charge(7, lifetime=500)) for _ in range(200)), return_exceptions=True
        )
        assert sum(isinstance(outcome, Charged) for outcome in outcomes) == 71
        assert sum(isinstance(outcome, CallerOverLimit) for outcome in outcomes) == 129
        assert await used(ledger) == (497, 497)


async def test_what_is_given_back_is_given_back_once(opened: Open) -> None:
    async with opened() as ledger:
        kept, lost = charge(3), charge(4)
        await ledger.charge(kept)
        await ledger.charge(lost)
        for _ in range(3):
            await ledger.give_back(lost, lost.id)
        assert await used(ledger) == (3, 3)
        await ledger.settle(kept, kept.id, None)
        await ledger.close()
        await asyncio.sleep(0)


async def test_what_was_settled_is_not_given_back(opened: Open) -> None:
    async with opened() as ledger:
        first = charge(4, once=once())
        await ledger.charge(first)
        await ledger.settle(first, first.id, b"answer")
        await ledger.give_back(first, first.id)
        assert await used(ledger) == (4, 4)
        assert await ledger.charge(charge(4, once=once())) == Stored(b"answer")


async def test_a_replay_is_charged_once_and_answered_alike(opened: Open) -> None:
    async with opened() as ledger:
        first = charge(4, lifetime=4, once=once())
        assert isinstance(await ledger.charge(first), Charged)
        assert isinstance(await ledger.charge(charge(4, lifetime=4, once=once())), Pending)
        await ledger.settle(first, first.id, b"answer")
        for _ in range(3):
            replay = charge(4, lifetime=4, once=once())
            assert await ledger.charge(replay) == Stored(b"answer")
        with pytest.raises(Conflict):
            await ledger.charge(charge(4, lifetime=4, once=once(body=b"another")))
        assert await used(ledger) == (4, 4)


async def test_keys_of_different_callers_have_nothing_to_do_with_each_other(opened: Open) -> None:
    async with opened() as ledger:
        mine, theirs = charge(4, once=once()), charge(5, identity=B, once=once(body=b"other"))
        assert isinstance(await ledger.charge(mine), Charged)
        assert isinstance(await ledger.charge(theirs), Charged)


async def test_a_failed_request_is_a_new_one_when_it_comes_again(opened: Open) -> None:
    async with opened() as ledger:
        first = charge(4, once=once())
        await ledger.charge(first)
        await ledger.give_back(first, first.id)
        assert await used(ledger) == (0, 0)
        assert isinstance(await ledger.charge(charge(4, once=once(body=b"another"))), Charged)
        assert await used(ledger) == (4, 4)


async def test_whoever_hangs_up_pays_once_and_may_come_back(opened: Open) -> None:
    async with opened() as ledger:
        first = charge(4, once=once())
        await ledger.charge(first)
        ledger.leave(first, first.id)
        replay = charge(4, once=once())
        outcome = await until(ledger, replay)
        assert outcome == Again(first.id, paid=False)
        # Somebody answers it now.
        assert isinstance(await ledger.charge(charge(4, once=once())), Pending)
        await ledger.give_back(replay, first.id)
        assert await used(ledger) == (0, 0)


async def test_an_answer_that_is_too_large_is_computed_again_and_not_charged_again(
    opened: Open,
) -> None:
    async with opened(max_answer_bytes=10) as ledger:
        first = charge(4, once=once())
        await ledger.charge(first)
        await ledger.settle(first, first.id, bytes(11))
        replay = charge(4, once=once())
        assert await ledger.charge(replay) == Again(first.id, paid=True)
        # It fails this time, but it was answered before.
        await ledger.give_back(replay, first.id)
        assert await used(ledger) == (4, 4)


async def test_a_request_is_forgotten_after_its_window(opened: Open) -> None:
    async with opened(window_s=0.3) as ledger:
        first = charge(4, once=once())
        await ledger.charge(first)
        await ledger.settle(first, first.id, b"answer")
        await asyncio.sleep(0.4)
        assert isinstance(await ledger.charge(charge(4, once=once())), Charged)
        assert await used(ledger) == (8, 8)


async def test_only_so_many_requests_are_remembered(opened: Open) -> None:
    async with opened(max_requests=3) as ledger:
        for number in range(5):
            asked = charge(1, once=once(f"request-{number}"))
            await ledger.charge(asked)
            await ledger.settle(asked, asked.id, b"answer")
        known = [
            await ledger.charge(charge(1, once=once(f"request-{number}"))) for number in (2, 3, 4)
        ]
        assert known == [Stored(b"answer")] * 3
        assert isinstance(await ledger.charge(charge(1, once=once("request-0"))), Charged)


async def test_what_was_charged_outlives_the_process(opened: Open) -> None:
    async with opened() as ledger:
        if isinstance(ledger, MemoryLedger):
            return  # promises nothing of the kind
        settled, lost, working = charge(1, once=once("s")), charge(2), charge(4, once=once("w"))
        for one in (settled, lost, working):
            await ledger.charge(one)
        await ledger.settle(settled, settled.id, b"answer")
        await ledger.give_back(lost, lost.id)
    async with opened(lease_s=0.0) as ledger:
        assert await used(ledger) == (5, 5)
        replay = await ledger.charge(charge(1, once=once("s")))
        # Redis keeps the answer, a file only that it was paid for.
        in_file = isinstance(ledger, FileLedger)
        assert replay == (Again(settled.id, paid=True) if in_file else Stored(b"answer"))
        with pytest.raises(Conflict):
            await ledger.charge(charge(1, once=once("s", b"another")))
        assert await used(ledger) == (5, 5)

"""A request that one attempt took over from another: who pays, who may end it, and how often."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from benchmarks.redis_server import RedisServer
from server.callers.grants import PaidGrant
from server.callers.ledger import Again, Charge, Charged, Ledger, Pending, Stored
from server.callers.ledger_redis import RedisLedger
from server.callers.metrics import CallerMetrics
from server.callers.redis_link import RedisLink
from server.errors import StoreAway
from server.settings_callers import IdempotencySettings, RedisSettings
from tests.server.callers.ledgers import Open, charge, once, until, used

pytestmark = pytest.mark.anyio

T = TypeVar("T")


def attempt(samples: int = 4) -> Charge:
    """One more attempt at one and the same request."""
    return charge(samples, once=once())


async def taken_over(ledger: Ledger) -> tuple[Charge, Charge]:
    """A first attempt, and the one that has the request now."""
    first, second = attempt(), attempt()
    assert isinstance(await ledger.charge(first), Charged)
    ledger.leave(first, first.id)
    assert await until(ledger, second) == Again(first.id, paid=False)
    return first, second


async def told(registry: CollectorRegistry) -> None:
    """Wait until the store has heard of everything."""
    for _ in range(500):
        if not registry.get_sample_value("intaglio_unsettled_charges"):
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it is never told")


async def test_a_late_refund_takes_nothing_from_who_took_over(opened: Open) -> None:
    async with opened() as ledger:
        first, second = await taken_over(ledger)
        assert await ledger.give_back(first, first.id) == 0
        assert isinstance(await ledger.charge(attempt()), Pending)
        await ledger.settle(second, first.id, b"answer")
        assert await used(ledger) == (4, 4)
        assert await ledger.charge(attempt()) == Stored(b"answer")


async def test_who_was_taken_over_is_audited_as_charged(opened: Open) -> None:
    async with opened() as ledger:
        first, second = await taken_over(ledger)
        late, owning = PaidGrant(ledger, first), PaidGrant(ledger, second, paid_by=first.id)
        await late.unanswered()
        assert (late.balance, await used(ledger)) == (4, (4, 4))
        await owning.unanswered()
        assert (owning.balance, await used(ledger)) == (-4, (0, 0))


async def test_a_late_answer_is_paid_for_whatever_becomes_of_who_took_over(opened: Open) -> None:
    async with opened() as ledger:
        first, second = await taken_over(ledger)
        await ledger.settle(first, first.id, b"answer")
        assert await ledger.charge(attempt()) == Stored(b"answer")
        assert await ledger.give_back(second, first.id) == 0
        assert await used(ledger) == (4, 4)
        assert await ledger.charge(attempt()) == Stored(b"answer")


async def test_a_late_answer_that_is_not_kept_ends_nobodys_lease(opened: Open) -> None:
    async with opened() as ledger:
        first, second = await taken_over(ledger)
        await ledger.settle(first, first.id, None)
        assert isinstance(await ledger.charge(attempt()), Pending)
        assert await ledger.give_back(second, first.id) == 0
        assert await used(ledger) == (4, 4)
        assert await ledger.charge(attempt()) == Again(first.id, paid=True)


@pytest.mark.parametrize("paid", [False, True])
async def test_leaving_twice_ends_nobody_elses_lease(opened: Open, paid: bool) -> None:
    registry = CollectorRegistry()
    async with opened(registry=registry) as ledger:
        first, second = await taken_over(ledger)
        leaver, payer = first, first.id
        if paid:
            await ledger.settle(second, payer, None)
            leaver, third = attempt(), attempt()
            assert await ledger.charge(leaver) == Again(payer, paid=True)
            ledger.leave(leaver, payer)
            assert await until(ledger, third) == Again(payer, paid=True)
        ledger.leave(leaver, payer)
        await told(registry)
        assert isinstance(await ledger.charge(attempt()), Pending)


async def test_a_replay_of_what_was_answered_fails_and_makes_way(opened: Open) -> None:
    registry = CollectorRegistry()
    async with opened(registry=registry) as ledger:
        first, second = attempt(), attempt()
        await ledger.charge(first)
        await ledger.settle(first, first.id, None)
        assert await ledger.charge(second) == Again(first.id, paid=True)
        assert isinstance(await ledger.charge(attempt()), Pending)
        grant = PaidGrant(ledger, second, paid_by=first.id, paid=True)
        await grant.unanswered()
        assert await until(ledger, attempt()) == Again(first.id, paid=True)
        assert (grant.balance, await used(ledger)) == (0, (4, 4))


async def test_a_refund_that_is_told_twice_takes_nothing_from_a_new_request(opened: Open) -> None:
    async with opened() as ledger:
        first, anew = attempt(), attempt()
        await ledger.charge(first)
        assert await ledger.give_back(first, first.id) == 4
        assert isinstance(await ledger.charge(anew), Charged)
        assert await ledger.give_back(first, first.id) == 0
        assert await used(ledger) == (4, 4)
        assert isinstance(await ledger.charge(attempt()), Pending)
        await ledger.settle(anew, anew.id, b"answer")
        assert await ledger.charge(attempt()) == Stored(b"answer")


async def test_an_end_that_is_told_twice_takes_nothing_from_who_took_over(opened: Open) -> None:
    async with opened() as ledger:
        first, second = attempt(), attempt()
        await ledger.charge(first)
        await ledger.settle(first, first.id, None)
        assert await ledger.charge(second) == Again(first.id, paid=True)
        await ledger.settle(first, first.id, None)
        assert isinstance(await ledger.charge(attempt()), Pending)


# -- what only Redis does: replies that are lost, leases that run out ------------------------------


class Flaky(RedisLink):
    """A link that fails as it is told: before Redis hears of a call, or after it."""

    away = False
    deaf: type[BaseException] | None = None

    async def call(self, function: str, work: Callable[[], Awaitable[T]]) -> T:
        if self.away:
            raise StoreAway
        found = await super().call(function, work)
        if self.deaf is not None:
            if issubclass(self.deaf, asyncio.CancelledError):
                raise self.deaf
            raise StoreAway from self.deaf()
        return found


@asynccontextmanager
async def replica(
    server: RedisServer, registry: CollectorRegistry, *, lease_s: float = 60.0
) -> AsyncIterator[tuple[RedisLedger, Flaky]]:
    """The ledger of one of several servers, and its link."""
    metrics = CallerMetrics(registry)
    settings = RedisSettings(url=SecretStr(server.url), timeout_ms=5000.0)
    link = Flaky(settings, metrics)
    ledger = RedisLedger(link, IdempotencySettings(), metrics, lease_s=lease_s)
    await ledger.start()
    yield ledger, link
    await ledger.close()
    await link.close()


@pytest.mark.parametrize("how", [TimeoutError, asyncio.CancelledError])
async def test_a_takeover_whose_reply_is_lost_makes_way_at_once(
    redis_server: RedisServer, how: type[BaseException]
) -> None:
    registry = CollectorRegistry()
    async with replica(redis_server, registry) as (ledger, link):
        first = attempt()
        await ledger.charge(first)
        ledger.leave(first, first.id)
        await told(registry)
        link.deaf = how
        with pytest.raises((StoreAway, asyncio.CancelledError)):
            await ledger.charge(attempt())
        link.deaf = None
        await told(registry)
        # The lease is a minute; it stays charged, as for whoever hung up before.
        assert await ledger.charge(attempt()) == Again(first.id, paid=False)
        assert await used(ledger) == (4, 4)


async def test_a_takeover_that_arrives_after_its_end_takes_nothing(
    redis_server: RedisServer,
) -> None:
    registry = CollectorRegistry()
    async with replica(redis_server, registry) as (ledger, _):
        first, hung = attempt(), attempt()
        await ledger.charge(first)
        ledger.leave(first, first.id)
        await told(registry)
        assert await ledger.give_back(hung, hung.id) == 0
        with pytest.raises(StoreAway):
            await ledger.charge(hung)
        assert await ledger.charge(attempt()) == Again(first.id, paid=False)
        assert await used(ledger) == (4, 4)


async def test_a_charge_that_arrives_after_its_refund_counts_nothing(
    redis_server: RedisServer,
) -> None:
    async with replica(redis_server, CollectorRegistry()) as (ledger, _):
        hung = attempt()
        assert await ledger.give_back(hung, hung.id) == 0
        with pytest.raises(StoreAway):
            await ledger.charge(hung)
        assert await used(ledger) == (0, 0)
        assert isinstance(await ledger.charge(attempt()), Charged)


async def test_a_refund_queued_for_longer_than_the_lease_makes_no_answer_free(
    redis_server: RedisServer,
) -> None:
    registry, elsewhere = CollectorRegistry(), CollectorRegistry()
    async with (
        replica(redis_server, registry, lease_s=0.0) as (ledger, link),
        replica(redis_server, elsewhere) as (other, _),
    ):
        first, second = attempt(), attempt()
        await ledger.charge(first)
        link.away = True
        assert await ledger.give_back(first, first.id) == 4  # as far as is known
        assert await until(other, second) == Again(first.id, paid=False)
        link.away = False
        await told(registry)
        assert isinstance(await other.charge(attempt()), Pending)
        await other.settle(second, first.id, b"answer")
        assert await used(other) == (4, 4)
        assert await other.charge(attempt()) == Stored(b"answer")
        assert registry.get_sample_value("intaglio_refunded_samples_total") == 0

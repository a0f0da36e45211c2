"""Redis is well and we are not: too few connections, or an event loop that looks too late."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from server.admission import Allowance
from server.callers.lateness import Lateness
from server.callers.ledger import Charge
from server.callers.ledger_redis import RedisLedger
from server.callers.metrics import CallerMetrics
from server.callers.redis_link import LEFT_ALONE_S, MOST_DOUBTS, RedisLink
from server.errors import ConfigurationError, StoreAway
from server.settings_callers import IdempotencySettings, RedisSettings

pytestmark = pytest.mark.anyio

TIMEOUT_MS = 40.0


@asynccontextmanager
async def linked(
    registry: CollectorRegistry | None = None,
    *,
    timeout_ms: float = TIMEOUT_MS,
    connections: int = 1,
) -> AsyncIterator[RedisLink]:
    """A link with connections that no test makes: what is asked is no Redis."""
    settings = RedisSettings(
        url=SecretStr("unix:///nowhere"), timeout_ms=timeout_ms, connections=connections
    )
    metrics = CallerMetrics(registry or CollectorRegistry(), redis=True)
    link = RedisLink(settings, metrics)
    await link.call("keys", answered)
    yield link
    await link.close()


async def answered() -> str:
    return "PONG"


@asynccontextmanager
async def occupied(link: RedisLink) -> AsyncIterator[None]:
    """Somebody has the one connection, for as long as the block runs."""
    await link._turns.acquire()
    yield
    link._turns.release()


async def test_who_finds_no_connection_is_refused_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    registry = CollectorRegistry()
    asked = False

    async def ask() -> None:
        nonlocal asked
        asked = True

    async with linked(registry) as link:
        async with occupied(link):
            refused = await asyncio.gather(
                *(link.call("keys", ask) for _ in range(20)), return_exceptions=True
            )
        assert [type(error) for error in refused] == [StoreAway] * 20
        assert not asked
        assert registry.get_sample_value("intaglio_redis_up") == 1
        # Nobody is kept away because of it: not for a moment.
        assert await link.call("keys", answered) == "PONG"
    assert [record.message for record in caplog.records] == [
        "all connections to Redis are in use (redis.connections)"
    ]


async def test_that_connections_are_few_is_said_once_in_a_while(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with linked() as link:

        async def crowd() -> int:
            async with occupied(link):
                with pytest.raises(StoreAway):
                    await link.call("keys", answered)
            # A connection is free now and then in any crowd.
            assert await link.call("keys", answered) == "PONG"
            return caplog.text.count("all connections to Redis are in use")

        assert await crowd() == 1
        assert await crowd() == 1
        monkeypatch.setattr("server.callers.redis_link.CROWDED_SAID_S", 0.0)
        assert await crowd() == 2


async def test_connections_are_had_first_come_first_served() -> None:
    served: list[int] = []

    async def serve(number: int) -> None:
        served.append(number)
        await asyncio.sleep(0)

    async with linked(timeout_ms=30_000.0) as link:
        async with occupied(link):
            callers = [
                asyncio.create_task(link.call("keys", partial(serve, number)))
                for number in range(50)
            ]
            await asyncio.sleep(0)
        await asyncio.gather(*callers)
    assert served == list(range(50))


async def test_who_waited_in_line_is_told_at_once_that_redis_is_away() -> None:
    async def broken() -> None:
        raise ConnectionError

    async with linked(timeout_ms=30_000.0) as link:
        async with occupied(link):
            waiting = [asyncio.create_task(link.call("keys", broken)) for _ in range(3)]
            asked_too = asyncio.create_task(link.call("keys", answered))
            await asyncio.sleep(0)
        # The first of them asks, and finds out for all.
        refused = await asyncio.gather(*waiting, asked_too, return_exceptions=True)
        assert [type(error) for error in refused] == [StoreAway] * 4
        causes = [error.__cause__ for error in refused if isinstance(error, StoreAway)]
        assert [cause is None for cause in causes] == [False, True, True, True]


async def test_a_charge_that_never_went_out_is_no_refund() -> None:
    registry = CollectorRegistry()
    async with linked(registry) as link:
        metrics = CallerMetrics(CollectorRegistry())
        ledger = RedisLedger(link, IdempotencySettings(), metrics, lease_s=1.0)
        async with occupied(link):
            with pytest.raises(StoreAway):
                await ledger.charge(Charge("key-a", 1, Allowance()))
            hung_up = asyncio.create_task(ledger.charge(Charge("key-a", 1, Allowance())))
            await asyncio.sleep(0)
            hung_up.cancel()
            with pytest.raises(asyncio.CancelledError):
                await hung_up
        assert not ledger._arrears._waiting


async def late() -> None:
    """Ask, and look for the answer when it is too late; ends by its timeout."""
    time.sleep(3 * TIMEOUT_MS / 1000)
    await asyncio.Event().wait()


async def test_what_has_no_words_is_called_by_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    async with linked() as link:
        monkeypatch.setattr(link.client, "ping", asyncio.Event().wait)
        with pytest.raises(ConfigurationError, match=r"Redis does not answer: TimeoutError$"):
            await link.start()


async def test_a_late_loop_is_no_outage(caplog: pytest.LogCaptureFixture) -> None:
    registry = CollectorRegistry()
    async with linked(registry) as link:
        for _ in range(2 * MOST_DOUBTS):
            with pytest.raises(StoreAway):
                await link.call("keys", late)
            assert registry.get_sample_value("intaglio_redis_up") == 1
            assert await link.call("keys", answered) == "PONG"
    assert {record.levelname for record in caplog.records} == {"WARNING"}


async def test_who_was_late_together_is_one_doubt() -> None:
    registry = CollectorRegistry()
    async with linked(registry, connections=8) as link:
        asked = await asyncio.gather(
            *(link.call("keys", late) for _ in range(8)), return_exceptions=True
        )
        assert [type(error) for error in asked] == [StoreAway] * 8
        assert link._doubts == 1
        assert registry.get_sample_value("intaglio_redis_up") == 1
        assert await link.call("keys", answered) == "PONG"


async def test_a_loop_that_is_always_late_does_not_hide_an_outage(
    caplog: pytest.LogCaptureFixture,
) -> None:
    registry = CollectorRegistry()
    async with linked(registry) as link:
        for _ in range(MOST_DOUBTS):
            with pytest.raises(StoreAway):
                await link.call("keys", late)
            assert registry.get_sample_value("intaglio_redis_up") == 1
        with pytest.raises(StoreAway):
            await link.call("keys", late)
        assert registry.get_sample_value("intaglio_redis_up") == 0
        with pytest.raises(StoreAway) as refused:
            await link.call("keys", answered)
        assert refused.value.__cause__ is None
        await asyncio.sleep(LEFT_ALONE_S)
        # Nobody doubts any more, nor says so, until it answers.
        with pytest.raises(StoreAway):
            await link.call("keys", late)
        assert [record.levelname for record in caplog.records] == ["WARNING"] * 3 + ["ERROR"]
        assert caplog.messages[-1] == "Redis is away: TimeoutError"
        await asyncio.sleep(LEFT_ALONE_S)
        assert await link.call("keys", answered) == "PONG"
        assert registry.get_sample_value("intaglio_redis_up") == 1


async def test_lateness_is_added_up_while_somebody_watches() -> None:
    lateness = Lateness(0.005)
    time.sleep(0.02)
    began = time.monotonic()
    with lateness.watch() as late_s:
        assert late_s() <= time.monotonic() - began, "nobody watched before"
        for _ in range(3):
            await asyncio.sleep(0.006)
            time.sleep(0.03)
        assert late_s() >= 0.07


async def test_a_second_watcher_is_not_told_of_what_was_late_before_it() -> None:
    lateness = Lateness(0.005)
    with lateness.watch() as first_s:
        time.sleep(0.05)
        began = time.monotonic()
        with lateness.watch() as second_s:
            assert first_s() >= 0.04
            assert second_s() <= time.monotonic() - began
            # The timer fires, late for both, and goes on.
            await asyncio.sleep(0)
            time.sleep(0.03)
            await asyncio.sleep(0.006)
            assert 0.02 <= second_s() <= time.monotonic() - began
            second = second_s()
            assert first_s() >= second + 0.04

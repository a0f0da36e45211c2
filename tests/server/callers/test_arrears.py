"""What the store could not be told: nothing in it may hold up the rest."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from benchmarks.redis_server import RedisServer
from server.callers import arrears as module
from server.callers.arrears import Arrears
from server.callers.ledger_redis import RedisLedger
from server.callers.metrics import CallerMetrics
from server.callers.redis_link import passes
from server.errors import StoreAway
from server.settings_callers import IdempotencySettings
from tests.server.callers.conftest import linked
from tests.server.callers.ledgers import charge, once, used
from tests.server.callers.test_takeovers import told

pytestmark = pytest.mark.anyio


def lost(registry: CollectorRegistry) -> float | None:
    return registry.get_sample_value("intaglio_lost_charges_total")


async def test_what_redis_will_never_take_holds_up_nothing(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    registry = CollectorRegistry()
    metrics = CallerMetrics(registry)
    async with linked(redis_server) as link:
        ledger = RedisLedger(link, IdempotencySettings(), metrics, lease_s=60.0)
        await ledger.start()
        kept, poisoned, other = (charge(4, once=once(name)) for name in ("a", "b", "c"))
        for one in (kept, poisoned, other):
            await ledger.charge(one)
        with redis_server.client() as client:
            (place,) = (name for name in client.keys("*:once:*") if poisoned.place in name.decode())
            client.set(place, "no hash")
        for one in (poisoned, kept, other):
            ledger.leave(one, one.id)
        await told(registry)
        assert lost(registry) == 1
        assert "never settled (left): " in caplog.text
        assert "WRONGTYPE" in caplog.text
        # The others were heard: nobody answers them any more.
        for name in ("a", "c"):
            assert not hasattr(await ledger.charge(charge(4, once=once(name))), "wait_s")
        await ledger.close()


async def test_what_a_full_redis_does_not_take_it_takes_later(redis_server: RedisServer) -> None:
    registry = CollectorRegistry()
    async with linked(redis_server) as link:
        ledger = RedisLedger(link, IdempotencySettings(), CallerMetrics(registry), lease_s=60.0)
        await ledger.start()
        refunded = charge(4)
        await ledger.charge(refunded)
        with redis_server.client() as client:
            client.config_set("maxmemory", 1)
            assert await ledger.give_back(refunded, refunded.id) == 4
            await asyncio.sleep(4 * module.EVERY_S)
            assert registry.get_sample_value("intaglio_unsettled_charges") == 1
            assert (registry.get_sample_value("intaglio_unsettled_seconds") or 0) > 0.1
            client.config_set("maxmemory", 0)
        await told(registry)
        assert registry.get_sample_value("intaglio_unsettled_seconds") == 0
        assert await used(ledger) == (0, 0)
        assert lost(registry) == 0
        await ledger.close()


async def test_what_nobody_was_told_is_charged_is_no_refund_to_count(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = CollectorRegistry()
    async with linked(redis_server) as link:
        ledger = RedisLedger(link, IdempotencySettings(), CallerMetrics(registry), lease_s=60.0)
        await ledger.start()
        counts = ledger._charge

        async def unheard(*arguments: Any) -> None:
            await counts(*arguments)
            raise TimeoutError

        with monkeypatch.context() as patched:
            patched.setattr(ledger, "_charge", unheard)
            with pytest.raises(StoreAway):
                await ledger.charge(charge(4))
        await told(registry)
        assert await used(ledger) == (0, 0)
        assert registry.get_sample_value("intaglio_refunded_samples_total") == 0
        heard = charge(3)
        await ledger.charge(heard)
        assert await ledger.give_back(heard, heard.id) == 3
        assert registry.get_sample_value("intaglio_refunded_samples_total") == 3
        await ledger.close()


async def test_what_has_to_be_told_again_keeps_its_place() -> None:
    heard: list[int] = []
    refusing = {2, 4}
    waiting: Arrears[int] | None = None

    async def tell(items: Sequence[int]) -> list[int]:
        again = [item for item in items if item in refusing]
        heard.extend(item for item in items if item not in refusing)
        refusing.clear()
        return again

    waiting = Arrears(tell, CallerMetrics(CollectorRegistry()))
    for item in (1, 2, 3, 4, 5):
        waiting.add(item)
    await waiting.close()
    assert heard == [1, 3, 5, 2, 4]


async def test_what_is_never_told_is_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def tell(items: Sequence[int]) -> list[int]:
        raise StoreAway

    monkeypatch.setattr(module, "MOST", 3)
    monkeypatch.setattr(module, "LAST_S", 0.1)
    registry = CollectorRegistry()
    waiting = Arrears(tell, CallerMetrics(registry))
    with caplog.at_level(logging.ERROR):
        for item in range(5):
            waiting.add(item)
        assert lost(registry) == 2
        await waiting.close()
    assert lost(registry) == 5
    assert "3 charges end here" in caplog.text


def test_complaints_about_itself_pass_and_those_about_a_script_do_not() -> None:
    from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError

    assert passes(OutOfMemoryError("command not allowed when used memory > 'maxmemory'."))
    assert passes(ReadOnlyError("You can't write against a read only replica."))
    assert passes(ResponseError("MISCONF Redis is configured to save RDB snapshots, but"))
    assert passes(
        ResponseError(
            "Error running script (call to f_1): @user_script:3: -OOM command not allowed"
        )
    )
    assert not passes(ResponseError("WRONGTYPE Operation against a key holding the wrong kind"))
    assert not passes(ResponseError("Error compiling script (new function): user_script:1"))

"""Redis killed, paused, and back: who is refused, how fast, and what is lost: nothing."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from benchmarks.redis_server import RedisServer
from server.callers.assembly import build_callers
from server.errors import ConfigurationError, InternalFailure
from tests.server.callers.conftest import in_redis
from tests.server.callers.serving import ask, made, served, used
from tests.server.http.fakes import EXPLAINED, FakePlane, error_of

pytestmark = pytest.mark.anyio

TIMEOUT_MS = 150.0


async def eventually_used(client: httpx.AsyncClient, key: str, samples: int) -> None:
    """Wait until the ledger has heard of everything, and says that."""
    until = time.monotonic() + 10
    while (found := await used(client, key)) != (samples, samples):
        assert time.monotonic() < until, found
        await asyncio.sleep(0.05)


async def answered(client: httpx.AsyncClient, key: str) -> None:
    """Ask until it is answered."""
    until = time.monotonic() + 10
    while (await ask(client, key)).status_code != 200:
        assert time.monotonic() < until
        await asyncio.sleep(0.05)


async def test_budgets_survive_a_kill_and_the_server_comes_back_by_itself(
    redis_server: RedisServer,
) -> None:
    settings = in_redis(redis_server, timeout_ms=TIMEOUT_MS)
    key = await made(settings, lifetime=100)
    registry = CollectorRegistry()
    plane = FakePlane(EXPLAINED)
    async with served(settings, plane, registry=registry) as (client, _):
        for _ in range(5):
            await answered(client, key)
        redis_server.kill()
        refused = await ask(client, key)
        assert "cannot be checked now" in error_of(refused, 503)
        assert int(refused.headers["retry-after"]) == 1
        assert registry.get_sample_value("intaglio_redis_up") == 0
        errors = registry.get_sample_value("intaglio_store_errors_total", {"function": "keys"})
        assert errors is not None
        assert errors >= 1
        redis_server.start()
        await answered(client, key)
        assert registry.get_sample_value("intaglio_redis_up") == 1
        assert await used(client, key) == (len(plane.asked), len(plane.asked))


async def test_a_paused_redis_costs_milliseconds(redis_server: RedisServer) -> None:
    settings = in_redis(redis_server, timeout_ms=TIMEOUT_MS)
    key = await made(settings)
    async with served(settings) as (client, _):
        await answered(client, key)
        with redis_server.paused():
            waits = []
            for _ in range(20):
                began = time.monotonic()
                assert (await ask(client, key)).status_code == 503
                waits.append(time.monotonic() - began)
        # One of them in a while waits for its answer in vain; the others are told at once.
        assert sorted(waits)[len(waits) // 2] < TIMEOUT_MS / 1000
        assert max(waits) < 2.0
        await answered(client, key)


async def test_a_charge_that_a_hanging_redis_reads_later_is_given_back(
    redis_server: RedisServer,
) -> None:
    settings = in_redis(redis_server, timeout_ms=TIMEOUT_MS)
    key = await made(settings, lifetime=1000)
    plane = FakePlane(EXPLAINED)
    async with served(settings, plane) as (client, callers):
        await answered(client, key)
        caller = await callers.admission.identify({"x-api-key": key})
        for _ in range(3):
            with redis_server.paused():
                # Past the key's look-up, so that it is the charge that hangs.
                charges = [callers.admission.admit(caller, 10) for _ in range(4)]
                gone = await asyncio.gather(*charges, return_exceptions=True)
                assert all(isinstance(error, Exception) for error in gone)
            await answered(client, key)
        await eventually_used(client, key, len(plane.asked))


class Failing(FakePlane):
    """Fails when it is told to."""

    async def predict(self, *arguments: Any, **options: Any) -> NDArray[np.float32]:
        await super().predict(*arguments, **options)
        raise InternalFailure


async def test_a_refund_that_nobody_hears_is_made_up_for(redis_server: RedisServer) -> None:
    settings = in_redis(redis_server, timeout_ms=TIMEOUT_MS)
    key = await made(settings, lifetime=1000)
    plane = Failing(EXPLAINED)
    plane.gate = asyncio.Event()
    async with served(settings, plane) as (client, _):
        asked = asyncio.create_task(ask(client, key))
        await plane.begun.wait()
        await eventually_used(client, key, 1)
        redis_server.kill()
        plane.gate.set()
        assert (await asked).status_code == 500
        redis_server.start()
        await eventually_used(client, key, 0)


async def test_without_redis_there_is_no_start(redis_server: RedisServer) -> None:
    settings = in_redis(redis_server, timeout_ms=TIMEOUT_MS)
    redis_server.stop()
    callers = build_callers(settings)
    with pytest.raises(ConfigurationError, match=r"redis\.url: Redis does not answer"):
        await callers.start()
    await callers.close()

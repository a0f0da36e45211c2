"""What tests of callers share: a store of each kind, and one process's link to Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from benchmarks.redis_server import RedisServer
from server.callers.ledger import Ledger
from server.callers.ledger_file import FileLedger
from server.callers.ledger_memory import MemoryLedger
from server.callers.ledger_redis import RedisLedger
from server.callers.metrics import CallerMetrics
from server.callers.redis_link import RedisLink
from server.settings import Settings
from server.settings_callers import IdempotencySettings, RedisSettings
from tests.server.callers.ledgers import Open


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["file", "redis"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings that keep callers in a file or in a real Redis."""
    if request.param == "file":
        return in_files(tmp_path)
    server: RedisServer = request.getfixturevalue("redis_server")
    return in_redis(server)


@pytest.fixture(params=["memory", "file", "redis"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens a ledger; all that one test opens are the same one, if it outlives its process."""
    kind: str = request.param
    server: RedisServer | None = None
    if kind == "redis":
        server = request.getfixturevalue("redis_server")

    @asynccontextmanager
    async def open_one(
        lease_s: float = 60.0, registry: CollectorRegistry | None = None, **given: Any
    ) -> AsyncIterator[Ledger]:
        settings = IdempotencySettings(**given)
        metrics = CallerMetrics(registry or CollectorRegistry())
        ledger: Ledger
        if server is not None:
            async with linked(server) as link:
                ledger = RedisLedger(link, settings, metrics, lease_s=lease_s)
                await ledger.start()
                yield ledger
                await ledger.close()
            return
        if kind == "file":
            ledger = FileLedger(tmp_path / "ledger.jsonl", settings, metrics)
        else:
            ledger = MemoryLedger(settings, metrics)
        await ledger.start()
        yield ledger
        await ledger.close()

    return open_one


def in_files(place: Path) -> Settings:
    return Settings(
        model_dir=Path("unused"), state_dir=place, callers={"store": "file"}, secret="0" * 16
    )


def in_redis(server: RedisServer, *, timeout_ms: float = 5000.0) -> Settings:
    """A patient one: the machine may be busy with something else."""
    return Settings(
        model_dir=Path("unused"),
        callers={"store": "redis"},
        redis={"url": server.url, "timeout_ms": timeout_ms},
        secret="0" * 16,
    )


@asynccontextmanager
async def linked(
    server: RedisServer, registry: CollectorRegistry | None = None
) -> AsyncIterator[RedisLink]:
    settings = RedisSettings(url=SecretStr(server.url), timeout_ms=5000.0)
    link = RedisLink(settings, CallerMetrics(registry or CollectorRegistry(), redis=True))
    yield link
    await link.close()

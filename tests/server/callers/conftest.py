"""What tests of callers share: a store of each kind, and one process's link to Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from benchmarks.redis_server import RedisServer
from server.callers.metrics import CallerMetrics
from server.callers.redis_link import RedisLink
from server.settings import Settings
from server.settings_callers import RedisSettings


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

"""A real Redis for each test that asks for one; ``tests/conftest.py`` makes it known to all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.redis_server import RedisServer

__all__ = ["redis_server"]


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """Running, empty, and gone after the test."""
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.kill()

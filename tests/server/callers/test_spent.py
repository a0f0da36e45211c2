"""What was used, as ``intaglio keys list`` shows it beside running servers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner
from prometheus_client import CollectorRegistry

from benchmarks.redis_server import RedisServer
from intaglio.cli import main
from server.admission import Allowance
from server.callers.ledger import Charge
from server.callers.ledger_file import FileLedger
from server.callers.ledger_redis import RedisLedger
from server.callers.metrics import CallerMetrics
from server.settings_callers import IdempotencySettings
from tests.server.callers.conftest import linked


def said(options: Sequence[str], *arguments: str) -> tuple[str, str]:
    result = CliRunner().invoke(main, [*options, *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout, result.stderr


def created(options: Sequence[str], *arguments: str) -> str:
    name: str = json.loads(said(options, "create", "--json", *arguments)[0])["id"]
    return name


def used(options: Sequence[str]) -> dict[str, int | None]:
    records = json.loads(said(options, "list", "--json")[0])
    return {record["id"]: record["lifetime_used"] for record in records}


@pytest.fixture
def in_file(tmp_path: Path) -> list[str]:
    return ["keys", "--set", "callers.store=file", "--set", f"state_dir={tmp_path}"]


async def charged(ledger: FileLedger | RedisLedger, name: str, samples: int) -> Charge:
    charge = Charge(f"key-{name}", samples, Allowance())
    await ledger.charge(charge)
    return charge


def test_the_ledger_of_a_running_server_is_read_and_left_alone(
    in_file: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "ledger.jsonl"
    first, second = created(in_file, "--lifetime", "1000"), created(in_file)

    async def serving() -> None:
        ledger = FileLedger(path, IdempotencySettings(), CallerMetrics(CollectorRegistry()))
        await ledger.start()
        await charged(ledger, first, 600)
        failed = await charged(ledger, first, 50)
        await ledger.give_back(failed, failed.id)
        await charged(ledger, second, 7)  # on disk, and the line of the refund before it
        before = (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino)
        assert await asyncio.to_thread(used, in_file) == {first: 600, second: 7}
        table, remarks = await asyncio.to_thread(said, in_file, "list")
        assert "600/1,000" in table
        assert remarks == ""
        assert (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino) == before
        await charged(ledger, second, 1)
        await ledger.close()

    asyncio.run(serving())
    with path.open("a") as file:
        file.write('{"charge": "half a li')  # as another process sees a write that goes on
    assert used(in_file) == {first: 600, second: 8}
    assert path.read_text().endswith("half a li")


def test_what_nobody_has_written_down_is_not_said_to_be_nothing(
    in_file: list[str], tmp_path: Path
) -> None:
    name = created(in_file, "--lifetime", "1000")
    assert used(in_file) == {name: None}
    table, remarks = said(in_file, "list")
    assert "-/1,000" in table
    path = tmp_path / "ledger.jsonl"
    assert remarks == (
        f"What was used is not known: callers.ledger: there is no {path}: no server was started "
        "yet, or it counts elsewhere\n"
    )
    assert not path.exists()
    path.write_text("what is this?\n")
    assert "line 1 of" in said(in_file, "list")[1]


def test_redis_is_asked(redis_server: RedisServer) -> None:
    options = ["keys", "--set", "callers.store=redis", "--set", f"redis.url={redis_server.url}"]
    options += ["--set", "redis.timeout_ms=5000"]
    first, second = created(options, "--lifetime", "1000"), created(options)

    async def serving() -> None:
        async with linked(redis_server) as link:
            metrics = CallerMetrics(CollectorRegistry())
            ledger = RedisLedger(link, IdempotencySettings(), metrics, lease_s=60.0)
            await ledger.start()
            await charged(ledger, first, 600)
            await ledger.close()

    asyncio.run(serving())
    before = sorted(redis_server.client().keys("*"))
    assert used(options) == {first: 600, second: 0}
    assert "600/1,000" in said(options, "list")[0]
    assert sorted(redis_server.client().keys("*")) == before

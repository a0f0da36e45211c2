"""The disk of ``callers.store: file`` hangs: who waits for it, for how long, and what it costs."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from server.admission import Allowance, Once
from server.callers.ledger import Charge, Charged
from server.callers.ledger_file import FileLedger
from server.callers.metrics import CallerMetrics
from server.errors import InternalFailure, StoreAway
from server.settings import Settings
from server.settings_callers import IdempotencySettings
from tests.server.callers.conftest import in_files
from tests.server.callers.serving import ask, infer, made, served, used
from tests.server.http.fakes import EXPLAINED, FakePlane, error_of

pytestmark = pytest.mark.anyio


class Disk:
    """Takes the place of ``fdatasync``; hangs from ``hang`` until ``go_on``."""

    def __init__(self) -> None:
        self._fine = threading.Event()
        self._fine.set()
        self._sync = os.fdatasync

    def hang(self) -> None:
        self._fine.clear()

    def go_on(self) -> None:
        self._fine.set()

    def fdatasync(self, file: int) -> None:
        assert self._fine.wait(60)
        self._sync(file)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    it = Disk()
    monkeypatch.setattr(os, "fdatasync", it.fdatasync)
    yield it
    it.go_on()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.jsonl"


async def opened(path: Path, registry: CollectorRegistry | None = None) -> FileLedger:
    metrics = CallerMetrics(registry or CollectorRegistry())
    ledger = FileLedger(path, IdempotencySettings(), metrics)
    await ledger.start()
    return ledger


async def remembered(path: Path) -> int:
    """Samples that a server which starts with this file, as it is now, counts as used."""
    copy = path.with_name("copy.jsonl")
    shutil.copyfile(path, copy)
    ledger = await opened(copy)
    found = (await ledger.used("key-a")).lifetime
    await ledger.close()
    return found


def charge(samples: int, once: str | None = None) -> Charge:
    named = None if once is None else Once(once, b"p")
    return Charge("key-a", samples, Allowance(lifetime=10), named)


# -- the ledger ------------------------------------------------------------------------------------


async def test_a_refund_waits_for_nothing(path: Path, disk: Disk) -> None:
    ledger = await opened(path)
    failed = charge(6)
    await ledger.charge(failed)
    disk.hang()
    assert await asyncio.wait_for(ledger.give_back(failed, failed.id), 30) == 6
    assert await ledger.give_back(failed, failed.id) == 0
    assert (await ledger.used("key-a")).lifetime == 0
    disk.go_on()
    await ledger.close()
    assert await remembered(path) == 0


async def test_what_was_given_back_is_had_by_nobody_before_the_disk_knows(
    path: Path, disk: Disk
) -> None:
    ledger = await opened(path)
    failed, next_one = charge(6), charge(6)
    await ledger.charge(failed)
    disk.hang()
    await ledger.give_back(failed, failed.id)
    asked = asyncio.create_task(ledger.charge(next_one))
    await asyncio.sleep(0.05)
    # If the process ended now, nobody would have been let through for the samples given back.
    assert not asked.done()
    disk.go_on()
    assert await asked == Charged(6, 6)
    # And if it ends now, whoever was let through is counted, and nobody else is.
    assert await remembered(path) == 6
    lines = path.read_bytes().splitlines(keepends=True)
    for end, counted in enumerate((0, 6, 0, 6)):
        path.with_name("cut.jsonl").write_bytes(b"".join(lines[:end]))
        assert await remembered(path.with_name("cut.jsonl")) == counted
    await ledger.close()


async def test_who_waits_no_longer_is_not_charged(path: Path, disk: Disk) -> None:
    ledger = await opened(path)
    disk.hang()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(ledger.charge(charge(6, once="a")), 0.05)
    assert (await ledger.used("key-a")).lifetime == 0
    again = asyncio.create_task(ledger.charge(charge(10, once="a")))
    await asyncio.sleep(0)
    disk.go_on()
    # It was forgotten: sent again, it is a new request.
    assert await again == Charged(10, 10)
    await ledger.close()
    assert await remembered(path) == 10


async def test_a_disk_that_hangs_is_a_failure_of_budgets(
    path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("server.callers.ledger_file.HANGS_S", 0.2)
    registry = CollectorRegistry()
    ledger = await opened(path, registry)

    async def given_up_after(seconds: float) -> float | None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ledger.charge(charge(1)), seconds)
        return registry.get_sample_value("intaglio_store_errors_total", {"function": "budgets"})

    for times in (1, 2):
        disk.hang()
        assert await given_up_after(0.25) == 3 * times - 2
        # It has hung for long enough by now, also for who does not wait as long.
        assert await given_up_after(0.01) == 3 * times - 1
        assert await given_up_after(0.01) == 3 * times
        assert caplog.text.count(f"callers.ledger: {path} hangs") == times
        disk.go_on()
        assert await ledger.charge(charge(1)) == Charged(times, times)
    assert registry.get_sample_value("intaglio_refunded_samples_total") == 0
    await ledger.close()


async def test_who_hangs_up_soon_says_nothing_about_the_disk(path: Path, disk: Disk) -> None:
    registry = CollectorRegistry()
    ledger = await opened(path, registry)
    for _ in range(3):
        disk.hang()
        asked = asyncio.create_task(ledger.charge(charge(1)))
        await asyncio.sleep(0)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        disk.go_on()
        await ledger.charge(charge(1))
    failed = registry.get_sample_value("intaglio_store_errors_total", {"function": "budgets"})
    assert failed == 0
    await ledger.close()


async def test_a_bounded_number_of_charges_waits(
    path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("server.callers.ledger_file.MOST_WAITING", 3)
    ledger = await opened(path)
    disk.hang()
    at_work = asyncio.create_task(ledger.charge(charge(1)))
    while not ledger._lines or ledger._journal.waiting:
        await asyncio.sleep(0.001)
    waiting = [asyncio.create_task(ledger.charge(charge(1))) for _ in range(3)]
    await asyncio.sleep(0)
    for name in ("a", "a"):
        with pytest.raises(StoreAway) as refused:
            await ledger.charge(charge(1, once=name))
        assert refused.value.retry_after is not None
    assert caplog.text.count("too many lines wait") == 1
    assert (await ledger.used("key-a")).lifetime == 4
    disk.go_on()
    await asyncio.gather(at_work, *waiting)
    assert await ledger.charge(charge(1, once="a")) == Charged(5, 5)
    await ledger.close()
    assert await remembered(path) == 5


async def test_a_server_stops_though_the_disk_hangs(
    path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("server.callers.journal.LAST_S", 0.05)
    ledger = await opened(path)
    failed = charge(6)
    await ledger.charge(failed)
    disk.hang()
    await ledger.give_back(failed, failed.id)
    await asyncio.wait_for(ledger.close(), 30)
    assert "its last lines are not written" in caplog.text


# -- a request -------------------------------------------------------------------------------------


def impatient(place: Path, deadline_s: float) -> Settings:
    return Settings(**{**dict(in_files(place)), "batching": {"deadline_s": deadline_s}})


async def test_a_deadline_holds_though_the_disk_hangs(tmp_path: Path, disk: Disk) -> None:
    settings, plane = impatient(tmp_path, 0.1), FakePlane(EXPLAINED)
    key = await made(settings, lifetime=1)
    async with served(settings, plane) as (client, _):
        disk.hang()
        for once in (None, "a", "a"):
            late = await asyncio.wait_for(ask(client, key, once=once), 30)
            assert error_of(late, 504) == "deadline passed"
        assert await used(client, key) == (0, 0)
        disk.go_on()
    assert not plane.asked


async def test_who_states_how_long_it_waits_is_not_charged_for_the_disk(
    tmp_path: Path, disk: Disk
) -> None:
    settings, plane = impatient(tmp_path, 60.0), FakePlane(EXPLAINED)
    key = await made(settings, lifetime=1)
    async with served(settings, plane) as (client, _):
        disk.hang()
        late = await asyncio.wait_for(infer(client, key, "a", timeout_s=0.05), 30)
        assert error_of(late, 504) == "deadline passed"
        assert await used(client, key) == (0, 0)
        disk.go_on()
        assert (await infer(client, key, "a", timeout_s=50.0)).status_code == 200
        assert await used(client, key) == (1, 1)


class Failing(FakePlane):
    """Fails once it is let go on."""

    async def predict(self, *arguments: Any, **options: Any) -> NDArray[np.float32]:
        await super().predict(*arguments, **options)
        raise InternalFailure


async def test_who_is_not_answered_is_told_so_though_the_disk_hangs(
    tmp_path: Path, disk: Disk
) -> None:
    settings, plane = impatient(tmp_path, 60.0), Failing(EXPLAINED)
    plane.gate = asyncio.Event()
    key = await made(settings, lifetime=1)
    async with served(settings, plane) as (client, _):
        asked = asyncio.create_task(ask(client, key))
        await plane.begun.wait()
        disk.hang()
        plane.gate.set()
        assert (await asyncio.wait_for(asked, 30)).status_code == 500
        assert await used(client, key) == (0, 0)
        disk.go_on()

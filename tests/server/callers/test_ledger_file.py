"""The ledger of one process: what a kill, a full disk or a strange file does to it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from server.admission import Allowance, Once
from server.callers.journal import Journal
from server.callers.ledger import Again, Charge, Charged
from server.callers.ledger_file import FileLedger
from server.callers.metrics import CallerMetrics
from server.errors import CallerOverLimit, ConfigurationError, StoreAway
from server.settings_callers import IdempotencySettings

pytestmark = pytest.mark.anyio

DAY = 86_400


@asynccontextmanager
async def opened(
    path: Path, *, idempotency: IdempotencySettings | None = None, **options: Any
) -> AsyncIterator[FileLedger]:
    metrics = CallerMetrics(CollectorRegistry())
    ledger = FileLedger(path, idempotency or IdempotencySettings(), metrics, **options)
    await ledger.start()
    yield ledger
    await ledger.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.jsonl"


def charge(samples: int, **given: Any) -> Charge:
    return Charge("key-a", samples, Allowance(**given))


async def test_a_day_ends_at_midnight_utc(path: Path) -> None:
    now = [20_000.5 * DAY]
    async with opened(path, clock=lambda: now[0]) as ledger:
        await ledger.charge(charge(10, per_day=10))
        with pytest.raises(CallerOverLimit) as refused:
            await ledger.charge(charge(1, per_day=10))
        assert refused.value.retry_after == DAY / 2
        now[0] += DAY / 2
        assert await ledger.charge(charge(10, per_day=10)) == Charged(10, 20)
    async with opened(path, clock=lambda: now[0]) as ledger:
        found = await ledger.used("key-a")
        assert (found.today, found.lifetime, found.day) == (10, 20, 20_001)
        now[0] += DAY
        assert (await ledger.used("key-a")).today == 0


async def test_what_is_given_back_after_midnight_is_yesterdays(path: Path) -> None:
    now = [20_000.9 * DAY]
    async with opened(path, clock=lambda: now[0]) as ledger:
        late = charge(4)
        await ledger.charge(late)
        now[0] += DAY / 2
        await ledger.charge(charge(3))
        await ledger.give_back(late, late.id)
        found = await ledger.used("key-a")
        assert (found.today, found.lifetime) == (3, 3)


async def test_what_was_given_back_stays_so_though_its_request_was_forgotten(path: Path) -> None:
    few = IdempotencySettings(max_requests=2)

    def named(name: str) -> Charge:
        return Charge("key-a", 5, Allowance(), Once(name, b"p"))

    async with opened(path, idempotency=few) as ledger:
        slow = named("slow")
        await ledger.charge(slow)
        for name in ("a", "b", "c"):
            quick = named(name)
            await ledger.charge(quick)
            await ledger.settle(quick, quick.id, None)
        assert await ledger.give_back(slow, slow.id) == 5
        assert (await ledger.used("key-a")).lifetime == 15
    async with opened(path, idempotency=few) as ledger:
        assert (await ledger.used("key-a")).lifetime == 15
        again = await ledger.charge(named("c"))
        assert isinstance(again, Again)
        assert again.paid, "it may have been answered"


async def test_keys_expire_over_restarts_too(path: Path) -> None:
    now = [20_000.5 * DAY]
    short: dict[str, Any] = {
        "idempotency": IdempotencySettings(window_s=100),
        "clock": lambda: now[0],
    }

    def named(name: str) -> Charge:
        return Charge("key-a", 1, Allowance(), Once(name, b"p"))

    async with opened(path, **short) as ledger:
        for wait_s, name in ((0, "first"), (10, "second"), (95, "first")):
            now[0] += wait_s
            assert isinstance(await ledger.charge(named(name)), Charged)
    async with opened(path, **short) as ledger:
        now[0] += 10
        assert isinstance(await ledger.charge(named("second")), Charged)
        assert isinstance(await ledger.charge(named("first")), Again)
    now[0] += 95
    async with opened(path, **short) as ledger:
        (left,) = ledger._memory.requests["key-a"].values()
        assert left.born == now[0] - 95
        assert isinstance(await ledger.charge(named("first")), Charged)


async def test_compaction_changes_nothing_but_the_size(path: Path) -> None:
    async with opened(path, compacted_at=50) as ledger:
        open_one = charge(2)
        await ledger.charge(open_one)
        for number in range(500):
            asked = Charge("key-a", 1, Allowance(), Once(f"r{number % 7}-{number}", b"p"))
            await ledger.charge(asked)
            if number % 3:
                await ledger.settle(asked, asked.id, None)
            else:
                await ledger.give_back(asked, asked.id)
        await ledger.give_back(open_one, open_one.id)
        before = await ledger.used("key-a")
    assert before.lifetime == 333
    async with opened(path) as ledger:
        assert await ledger.used("key-a") == before
        known = Charge("key-a", 1, Allowance(), Once("r2-499", b"p"))
        assert isinstance(await ledger.charge(known), Again)
    kinds = [next(iter(json.loads(line))) for line in path.read_text().splitlines()]
    assert kinds.count("account") == 1


async def test_compaction_is_written_off_the_loop_and_grows_rarer_with_what_is_kept(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    threads: set[str] = set()
    replace = Journal.replace

    def watched(journal: Journal, lines: Iterable[bytes]) -> asyncio.Future[None]:
        def noted() -> Iterator[bytes]:
            sizes.append(0)
            threads.add(threading.current_thread().name)
            for line in lines:
                sizes[-1] += 1
                yield line

        return replace(journal, noted())

    monkeypatch.setattr(Journal, "replace", watched)
    async with opened(path, compacted_at=10) as ledger:
        for number in range(640):
            asked = Charge("key-a", 1, Allowance(), Once(f"{number}", b"p"))
            await ledger.charge(asked)
            await ledger.settle(asked, asked.id, None)
    # Every request is remembered: with the account, and the one that is being charged.
    assert sizes == [12, 36, 108, 324]
    assert threads == {"intaglio-journal"}
    async with opened(path, compacted_at=10) as ledger:
        assert sizes[4:] == [641]
        assert (await ledger.used("key-a")).lifetime == 640


async def test_what_changes_while_a_compaction_is_written_is_not_in_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = threading.Event()
    replace = Journal.replace

    def slow(journal: Journal, lines: Iterable[bytes]) -> asyncio.Future[None]:
        def waited() -> Iterator[bytes]:
            assert goes_on.wait(30)
            yield from lines

        return replace(journal, waited())

    monkeypatch.setattr(Journal, "replace", slow)
    async with opened(path, compacted_at=3) as ledger:
        for _ in range(3):
            await ledger.charge(charge(1))
        # Counted in memory at once, and written behind the lines that are being made.
        later = [asyncio.ensure_future(ledger.charge(charge(10))) for _ in range(2)]
        await asyncio.sleep(0)
        assert (await ledger.used("key-a")).lifetime == 23
        goes_on.set()
        await asyncio.gather(*later)
    async with opened(path) as ledger:
        assert (await ledger.used("key-a")).lifetime == 23


async def test_a_line_that_was_never_finished_counts_nothing(path: Path) -> None:
    async with opened(path) as ledger:
        await ledger.charge(charge(5))
    with path.open("ab") as file:
        file.write(b'{"charge":"x","of":"key-a","n":7')
    async with opened(path) as ledger:
        assert (await ledger.used("key-a")).lifetime == 5
        await ledger.charge(charge(1))
    async with opened(path) as ledger:
        assert (await ledger.used("key-a")).lifetime == 6


@pytest.mark.parametrize("line", [b"nonsense", b"[]", b'{"charge":"x"}', b"17", b"{}"])
async def test_a_file_that_cannot_be_read_stops_the_start(path: Path, line: bytes) -> None:
    async with opened(path) as ledger:
        await ledger.charge(charge(5))
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(ConfigurationError, match=r"callers\.ledger: line 2 of .* cannot be read"):
        async with opened(path):
            pass


async def test_a_ledger_is_a_regular_file(path: Path) -> None:
    os.mkfifo(path)  # whose end nobody would ever see
    with pytest.raises(ConfigurationError, match=r"callers\.ledger: .* is not a regular file"):
        async with opened(path):
            pass


async def test_a_second_server_is_turned_away(path: Path) -> None:
    async with opened(path):
        with pytest.raises(ConfigurationError, match="belongs to a running server"):
            async with opened(path):
                pass


async def test_what_cannot_be_written_is_not_counted(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(path) as ledger:
        await ledger.charge(charge(5))

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(os, "fdatasync", full)
            with pytest.raises(StoreAway):
                await ledger.charge(charge(7))
            assert (await ledger.used("key-a")).lifetime == 5
        await ledger.charge(charge(1))
    async with opened(path) as ledger:
        assert (await ledger.used("key-a")).lifetime == 6


async def test_many_charges_share_a_write(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    sync = os.fdatasync

    def counted(descriptor: int) -> None:
        written.append(descriptor)
        sync(descriptor)

    monkeypatch.setattr(os, "fdatasync", counted)
    async with opened(path) as ledger:
        await asyncio.gather(*(ledger.charge(charge(1)) for _ in range(300)))
        assert (await ledger.used("key-a")).lifetime == 300
    assert len(written) < 150


async def test_a_journal_in_a_place_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"callers\.ledger: .* cannot be used"):
        Journal(tmp_path / "file" / "ledger.jsonl").open()


KILLED = """
import asyncio, sys
from pathlib import Path
from prometheus_client import CollectorRegistry
from server.admission import Allowance
from server.callers.ledger import Charge
from server.callers.ledger_file import FileLedger
from server.callers.metrics import CallerMetrics
from server.settings_callers import IdempotencySettings

async def main():
    metrics = CallerMetrics(CollectorRegistry())
    ledger = FileLedger(Path(sys.argv[1]), IdempotencySettings(), metrics, compacted_at=40)
    await ledger.start()
    async def caller():
        while True:
            await ledger.charge(Charge("key-a", 1, Allowance()))
            sys.stdout.write("x")
            sys.stdout.flush()
    await asyncio.gather(*(caller() for _ in range(8)))

asyncio.run(main())
"""


async def test_a_killed_process_has_counted_what_it_let_through(path: Path) -> None:
    counted = 0
    for _ in range(3):
        command = [sys.executable, "-c", textwrap.dedent(KILLED), str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            let_through = len(process.stdout.read(150))
            process.send_signal(signal.SIGKILL)
            let_through += len(process.stdout.read())
        async with opened(path) as ledger:
            now = (await ledger.used("key-a")).lifetime
        # What was on its way to the disk may count, although nobody was told.
        assert let_through <= now - counted <= let_through + 8
        counted = now

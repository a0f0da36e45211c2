"""Budgets under a race, with Redis killed and paused, and with the server killed.

    python -m benchmarks.reliability_budget race|redis|kill

*race*: 200 callers share one key and spend its budget through 4 replicas on one Redis, a quarter of
the answered requests being sent again under the same idempotency key. *redis*: the same replicas
with a larger budget while Redis is killed with SIGKILL and started again, and paused with SIGSTOP.
*kill*: one server with its budgets in a file is killed with SIGKILL under load and started again,
three times. Every drill ends by comparing what callers were answered, what the ledger says they
used and what the audit says they were charged; any difference ends it with an error and no result.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import httpx

from benchmarks.budget_callers import MODEL, SHAPE, Tally, call_until_told_not_to
from benchmarks.envelope import Row, quantile, write
from benchmarks.redis_server import RedisServer
from benchmarks.workloads import write_random_bundle
from intaglio.audit_records import read_audit
from intaglio.processes import Running, serving
from server.callers.assembly import open_key_store
from server.callers.keys import new_key
from server.settings import Settings

REPLICAS = 4
CALLERS = 200
BUDGET = 20_000
DRILL_CALLERS = 40
DRILL_S = 20.0
KILLS = 3
UNDER_LOAD_S = 3.0
OUTAGE_S = 2.0
SETTLE_S = 30.0
TIMEOUT_MS = 250


class Mismatch(Exception):
    """Something was lost, or counted twice."""


@click.command()
@click.argument("name", type=click.Choice(("race", "redis", "kill")))
def main(name: str) -> None:
    """Run one drill, print and keep what it came to."""
    drill = {"race": race, "redis": redis_drill, "kill": kill_drill}[name]
    with tempfile.TemporaryDirectory() as scratch:
        try:
            rows = drill(Path(scratch))
        except Mismatch as error:
            sys.exit(f"{name}: {error}")
    write(f"reliability-{name}", ["python", "-m", "benchmarks.reliability_budget", name], rows)


def race(scratch: Path) -> list[Row]:
    """As many callers as can be spend one budget through several replicas."""
    with in_redis(scratch) as redis, replicas(scratch, redis) as urls:
        key = make_key(settings(scratch, redis), lifetime=BUDGET)
        began = time.monotonic()
        tally = asyncio.run(crowd(urls, key, CALLERS, until=began + 300))
        seconds = time.monotonic() - began
        used = settled_use(urls, key)
    charged = charges(scratch)
    spent = [
        ("replicas", REPLICAS, "processes"),
        ("callers", CALLERS, "callers"),
        ("budget", BUDGET, "samples"),
    ]
    rows = [row("race", subject, "count", value, unit) for subject, value, unit in spent]
    rows += ends("race", tally, used, charged)
    rows.append(row("race", "answered", "throughput", tally.answered / seconds, "samples/s"))
    if not BUDGET - 16 < tally.answered <= BUDGET:
        raise Mismatch(f"{tally.answered} of {BUDGET} samples were answered")
    return checked(rows, tally, used, charged)


def redis_drill(scratch: Path) -> list[Row]:
    """Redis is killed, started again, paused and resumed while callers ask."""
    marks: dict[str, float] = {}

    async def trouble(redis: RedisServer) -> None:
        await asyncio.sleep(DRILL_S / 5)
        for name, begin, end in (
            ("kill", redis.kill, redis.start),
            ("pause", redis.pause, redis.resume),
        ):
            marks[f"{name} from"] = time.monotonic()
            begin()
            await asyncio.sleep(OUTAGE_S)
            # Started in a thread, so that callers go on meanwhile.
            await asyncio.to_thread(end)
            marks[f"{name} to"] = time.monotonic()
            await asyncio.sleep(DRILL_S / 5)

    async def both(urls: Sequence[str], key: str, redis: RedisServer) -> Tally:
        until = time.monotonic() + DRILL_S
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(crowd(urls, key, DRILL_CALLERS, until=until))
            group.create_task(trouble(redis))
        return asking.result()

    with in_redis(scratch) as redis, replicas(scratch, redis) as urls:
        key = make_key(settings(scratch, redis), lifetime=10**9)
        tally = asyncio.run(both(urls, key, redis))
        used = settled_use(urls, key)
    charged = charges(scratch)
    rows = [row("redis", "callers", "count", DRILL_CALLERS, "callers")]
    rows.append(row("redis", "timeout of Redis", "time", TIMEOUT_MS / 1000, "s"))
    for name in ("kill", "pause"):
        begin, end = marks[f"{name} from"], marks[f"{name} to"]
        waits = [wait for moment, wait in tally.refusals if begin <= moment <= end]
        again = min((moment for moment in tally.successes if moment > end), default=float("inf"))
        rows += [
            row("redis", f"{name}, away", "time", end - begin, "s"),
            row("redis", f"{name}, refused", "count", len(waits), "requests"),
            row("redis", f"{name}, refusal p50", "time", quantile(waits, 0.5), "s"),
            row("redis", f"{name}, refusal p99", "time", quantile(waits, 0.99), "s"),
            row("redis", f"{name}, until the next answer", "time", again - end, "s"),
        ]
    return checked(rows + ends("redis", tally, used, charged), tally, used, charged)


def kill_drill(scratch: Path) -> list[Row]:
    """One server with its budgets in a file is killed under load, and started again."""
    state = settings(scratch, None)
    key = make_key(state, lifetime=10**9)
    tally = Tally()
    write_random_bundle(scratch / "models", MODEL, "cnn-small", SHAPE, classes=10)
    for number in range(KILLS):
        with serving(scratch / "models", *options(scratch, None)) as server:
            asyncio.run(crowd_until_killed(server, key, tally, first=1000 * number))
    with serving(scratch / "models", *options(scratch, None)) as server:
        used = settled_use([server.url], key)
    charged = charges(scratch)
    rows = [row("kill", "kills", "count", KILLS, "times")]
    rows += ends("kill", tally, used, charged)
    rows.append(row("kill", "cut off by a kill", "count", tally.cut, "samples"))
    if not tally.answered <= used <= tally.answered + tally.cut:
        raise Mismatch(f"{tally.answered} samples were answered and {used} counted")
    if charged > used:
        raise Mismatch(f"the audit has {charged} samples and the ledger {used}")
    return rows


async def crowd_until_killed(server: Running, key: str, tally: Tally, *, first: int) -> None:
    """Callers at once, cut off in the middle of it."""
    until = time.monotonic() + UNDER_LOAD_S + 1.0
    async with asyncio.TaskGroup() as group:
        for caller in range(first, first + DRILL_CALLERS):
            group.create_task(call_until_told_not_to([server.url], key, caller, tally, until=until))
        await asyncio.sleep(UNDER_LOAD_S)
        os.kill(server.pid, signal.SIGKILL)


def ends(drill: str, tally: Tally, used: int, charged: int) -> list[Row]:
    """What every drill is judged by."""
    return [
        *(
            row(drill, f"status {s}", "count", n, "answers")
            for s, n in sorted(tally.statuses.items())
        ),
        row(drill, "hanging", "count", tally.hanging, "requests"),
        row(drill, "replayed", "count", tally.replayed, "requests"),
        row(drill, "replayed and answered differently", "count", tally.differing, "requests"),
        row(drill, "answered to callers", "count", tally.answered, "samples"),
        row(drill, "used, by the ledger", "count", used, "samples"),
        row(drill, "charged, by the audit", "count", charged, "samples"),
    ]


def checked(rows: list[Row], tally: Tally, used: int, charged: int) -> list[Row]:
    """``rows``, if nothing was lost and nothing counted twice."""
    if not tally.answered == used == charged:
        raise Mismatch(f"answered {tally.answered}, used {used}, charged {charged} samples")
    if tally.differing or tally.hanging:
        raise Mismatch(f"{tally.differing} replays differ, {tally.hanging} requests hang")
    return rows


def row(drill: str, subject: str, metric: str, value: float, unit: str) -> Row:
    """One figure of a drill."""
    return Row(f"reliability-{drill}", drill, subject, metric, value, unit)


# -- what the drills run on --------------------------------------------------------------------


@contextlib.contextmanager
def in_redis(scratch: Path) -> Iterator[RedisServer]:
    """A Redis that has every command on the disk before it answers."""
    directory = scratch / "redis"
    directory.mkdir()
    redis = RedisServer(directory)
    redis.start()
    try:
        yield redis
    finally:
        redis.kill()


@contextlib.contextmanager
def replicas(scratch: Path, redis: RedisServer) -> Iterator[list[str]]:
    """Server processes on one Redis; gives their URLs."""
    write_random_bundle(scratch / "models", MODEL, "cnn-small", SHAPE, classes=10)
    with contextlib.ExitStack() as stack:
        arguments = options(scratch, redis)
        yield [
            stack.enter_context(
                serving(scratch / "models", *arguments, log=scratch / f"replica-{number}")
            ).url
            for number in range(REPLICAS)
        ]


def options(scratch: Path, redis: RedisServer | None) -> list[str]:
    """Flags of a server."""
    where = ["callers.store=file"]
    if redis is not None:
        where = [
            "callers.store=redis", f"redis.url={redis.url}", f"redis.timeout_ms={TIMEOUT_MS}",
        ]  # fmt: skip
    chosen = [
        *where, f"state_dir={scratch / 'state'}", f"secret_file={scratch / 'secret'}",
        f"audit.directory={scratch / 'audit'}", "threads=1", "docs=false",
    ]  # fmt: skip
    return [argument for value in chosen for argument in ("--set", value)]


def settings(scratch: Path, redis: RedisServer | None) -> Settings:
    """The settings of a command beside the servers."""
    place = {"store": "file"} if redis is None else {"store": "redis"}
    address = {} if redis is None else {"url": redis.url, "timeout_ms": 5000}
    return Settings(model_dir=scratch, state_dir=scratch / "state", callers=place, redis=address)


def make_key(chosen: Settings, *, lifetime: int) -> str:
    """A key with a budget."""
    made = new_key(lifetime=lifetime)

    async def put() -> None:
        async with open_key_store(chosen) as store:
            await store.change(made.record.id, lambda _: made.record)

    asyncio.run(put())
    return made.secret


async def crowd(urls: Sequence[str], key: str, callers: int, *, until: float) -> Tally:
    """So many callers at once, until they are told that the budget is used up."""
    tally = Tally()
    async with asyncio.TaskGroup() as group:
        for caller in range(callers):
            group.create_task(call_until_told_not_to(urls, key, caller, tally, until=until))
    return tally


def settled_use(urls: Sequence[str], key: str) -> int:
    """What the ledger says, once it has said the same for a while."""
    seen: list[int] = []
    until = time.monotonic() + SETTLE_S
    while time.monotonic() < until:
        told = httpx.get(f"{urls[0]}/v1/usage", headers={"x-api-key": key}, timeout=10)
        if told.status_code == 200:
            seen.append(told.json()["lifetime"]["used"])
        if len(seen) > 5 and len(set(seen[-5:])) == 1:
            return seen[-1]
        time.sleep(0.3)
    raise Mismatch("the ledger does not come to rest")


def charges(scratch: Path) -> int:
    """What the audit says that callers were charged."""
    return sum(
        record["charged"] for record in read_audit(scratch / "audit") if record["event"] == "query"
    )


if __name__ == "__main__":
    main()

"""A hundred hot reloads under load: no request is lost, and nothing of an old model is left.

    python -m benchmarks.reload_soak [--reloads 100]

Callers ask without a pause while the configuration is rewritten and the server is sent SIGHUP, time
after time: each reload replaces the weights, the version and the chain of one model, and leaves
another as it is. Counted are answers by status, connections that broke, requests without an answer,
what a reload and a request took, and the server's memory.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import click
import httpx
import numpy as np
import psutil
import yaml

from benchmarks.envelope import RESULTS, Row, quantile, write
from benchmarks.wire import answer, images, infer_request
from benchmarks.workloads import write_random_bundle
from intaglio.processes import Running, serving

__all__ = ["Tally", "soak"]

SHAPE = (1, 28, 28)
SAMPLES = 4
CALLERS = 8
CHAINS: tuple[list[dict[str, object]], ...] = ([], [{"kind": "top-k", "k": 3}])
MADE = re.compile(
    r'^intaglio_repository_changes_total\{action="reload",outcome="made"\} (\S+)$', re.M
)
LONGEST_S = 60.0
"""A reload, or an answer, that takes longer counts as lost."""


@dataclass(slots=True)
class Tally:
    """What was seen from outside.

    Attributes:
        statuses: answers by HTTP status, of the model that is replaced and of the one that stays.
        answered: seconds of each 200.
        broken: connections that broke, and requests that were never answered, by what happened.
        reloads: seconds of each reload, from the signal to the new version being served.
        memory: resident MiB of the server after each reload.
        seconds: all of it.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    answered: list[float] = field(default_factory=list)
    broken: Counter[str] = field(default_factory=Counter)
    reloads: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    seconds: float = 0.0


def configure(config: Path, turn: int) -> str:
    """Write the configuration of a turn; the version that is to be served."""
    version = str(1 + turn % 2)
    models = {
        "shop": {"victim": f"lenet/{version}", "defenses": CHAINS[turn % 2]},
        "other": {"victim": "other/1"},
    }
    aside = config.with_suffix(".new")
    aside.write_text(
        yaml.safe_dump(
            {"models": models, "threads": 1, "secret_file": str(config.parent / "secret")}
        )
    )
    aside.replace(config)
    return version


async def caller(url: str, model: str, seed: int, over: asyncio.Event, tally: Tally) -> None:
    """Ask, and ask again, over one connection."""
    parts = urlsplit(url)
    request = infer_request(model, images(SAMPLES, SHAPE, seed=seed))
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        while not over.is_set():
            began = time.monotonic()
            writer.write(request)
            async with asyncio.timeout(LONGEST_S):
                status = await answer(reader)
            tally.statuses[status] += 1
            if status == 200:
                tally.answered.append(time.monotonic() - began)
    except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
        tally.broken[type(error).__name__] += 1
    finally:
        writer.close()


async def reload(client: httpx.AsyncClient, server: Running, config: Path, turn: int) -> None:
    """Have the configuration of ``turn`` served, and see that it is."""
    version = configure(config, turn)
    os.kill(server.pid, signal.SIGHUP)
    async with asyncio.timeout(LONGEST_S):
        while True:
            found = MADE.search((await client.get(server.metrics_url)).text)
            if found is not None and float(found[1]) >= turn:
                break
            await asyncio.sleep(0.02)
    served = (await client.get(f"{server.url}/v2/models/shop")).json()["versions"]
    if served != [version]:
        raise RuntimeError(f"reload {turn} should serve version {version}, not {served}")


async def _soak(server: Running, config: Path, reloads: int) -> Tally:
    tally, over, process = Tally(), asyncio.Event(), psutil.Process(server.pid)
    began = time.monotonic()
    async with httpx.AsyncClient(timeout=LONGEST_S) as client, asyncio.TaskGroup() as group:
        for seed in range(CALLERS):
            model = "shop" if seed % 4 else "other"
            group.create_task(caller(server.url, model, seed, over, tally))
        try:
            for turn in range(1, reloads + 1):
                started = time.monotonic()
                await reload(client, server, config, turn)
                tally.reloads.append(time.monotonic() - started)
                tally.memory.append(process.memory_info().rss / 2**20)
        finally:
            over.set()
    tally.seconds = time.monotonic() - began
    return tally


def soak(reloads: int, scratch: Path) -> Tally:
    """Serve two models out of ``scratch``, and replace one of them ``reloads`` times under load."""
    bundles, config = scratch / "models", scratch / "serve.yaml"
    for name, version, seed in (("lenet", "1", 0), ("lenet", "2", 1), ("other", "1", 2)):
        write_random_bundle(bundles, name, "lenet", SHAPE, classes=10, version=version, seed=seed)
    configure(config, 0)
    with serving(bundles, "--config", str(config)) as server:
        return asyncio.run(_soak(server, config, reloads))


def rows_of(tally: Tally) -> list[Row]:
    """The figures of a soak."""
    third = max(1, len(tally.memory) // 3)
    early, late = tally.memory[third : 2 * third] or tally.memory, tally.memory[-third:]

    def row(subject: str, metric: str, value: float, unit: str) -> Row:
        return Row("reload-soak", f"lenet-28x28-b{SAMPLES}-cpu", subject, metric, value, unit)

    return [
        row("callers", "count", CALLERS, "connections"),
        row("reloads", "count", len(tally.reloads), "reloads"),
        row("duration", "time", tally.seconds, "s"),
        *(row(f"status {s}", "count", n, "answers") for s, n in sorted(tally.statuses.items())),
        row("lost", "count", sum(tally.broken.values()), "requests"),
        row("answered", "throughput", SAMPLES * len(tally.answered) / tally.seconds, "samples/s"),
        row("answered p50", "time", quantile(tally.answered, 0.50), "s"),
        row("answered p99", "time", quantile(tally.answered, 0.99), "s"),
        row("answered, slowest", "time", max(tally.answered), "s"),
        row("reload p50", "time", quantile(tally.reloads, 0.50), "s"),
        row("reload, slowest", "time", max(tally.reloads), "s"),
        row("memory, middle third", "memory", float(np.median(early)), "MiB"),
        Row(
            "reload-soak", f"lenet-28x28-b{SAMPLES}-cpu", "memory, last third", "memory",
            float(np.median(late)), "MiB", "memory, middle third",
            float(np.median(late) / np.median(early)),
        ),
    ]  # fmt: skip


@click.command()
@click.option("--reloads", type=click.IntRange(min=1), default=100, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS, help="Where it is kept.")
def main(reloads: int, out: Path) -> None:
    """Soak, print and keep the result."""
    with tempfile.TemporaryDirectory() as scratch:
        tally = soak(reloads, Path(scratch))
    command = ["python", "-m", "benchmarks.reload_soak", "--reloads", str(reloads)]
    write("reload-soak", command, rows_of(tally), folder=out)
    if set(tally.statuses) != {200} or tally.broken:
        sys.exit(f"lost: {dict(tally.statuses)}, {dict(tally.broken)}")


if __name__ == "__main__":
    main()

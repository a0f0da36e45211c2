"""Ten times the queue's bound in flight for 30 seconds: what callers get, and what it costs.

    python -m benchmarks.overload

A ResNet-18 at 32x32 is served with a queue of 256 samples while 2,560 samples are asked about at
any time: by 160 callers with 16 images each, then by 2,560 callers with one. Each asks again the
moment it is answered, whatever the answer was.
Counted are answers by status, connection errors apart, the latency of accepted requests against
their deadline, requests that got no answer at all, and the server's memory.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import psutil
import torch

from benchmarks.envelope import Row, quantile, write
from benchmarks.wire import answer, images, infer_request
from benchmarks.workloads import write_random_bundle
from intaglio.processes import serving

QUEUE = 256
FACTOR = 10
PER_REQUEST = (16, 1)
SECONDS = 30.0
DEADLINE = 5.0
# A caller waits this long past the deadline before its request counts as hanging.
GRACE = 10.0


@dataclass(slots=True)
class Tally:
    """What the callers saw.

    Attributes:
        statuses: answers by HTTP status.
        accepted: seconds of each 200.
        broken: connections refused or reset, by name of the error.
        hanging: requests without an answer ``GRACE`` seconds after their deadline.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    accepted: list[float] = field(default_factory=list)
    broken: Counter[str] = field(default_factory=Counter)
    hanging: int = 0


async def caller(host: str, port: int, request: bytes, until: float, tally: Tally) -> None:
    """Ask, and ask again, over one connection that is renewed when it breaks."""
    writer: asyncio.StreamWriter | None = None
    reader: asyncio.StreamReader | None = None
    while time.monotonic() < until:
        try:
            if writer is None or reader is None:
                reader, writer = await asyncio.open_connection(host, port)
            started = time.monotonic()
            writer.write(request)
            async with asyncio.timeout(DEADLINE + GRACE):
                status = await answer(reader)
        except TimeoutError:
            tally.hanging += 1
        except (OSError, asyncio.IncompleteReadError) as error:
            tally.broken[type(error).__name__] += 1
        else:
            tally.statuses[status] += 1
            if status == 200:
                tally.accepted.append(time.monotonic() - started)
            continue
        if writer is not None:
            writer.close()
        reader = writer = None
        await asyncio.sleep(0.1)
    if writer is not None:
        writer.close()


async def memory(pid: int, until: float) -> list[float]:
    """Resident MiB of the server, once a second."""
    process = psutil.Process(pid)
    samples = []
    while time.monotonic() < until:
        samples.append(process.memory_info().rss / 2**20)
        await asyncio.sleep(1.0)
    return samples


async def offer(
    url: str, pid: int, shape: tuple[int, int, int], samples: int
) -> tuple[Tally, list[float]]:
    """Keep ``FACTOR * QUEUE`` samples in flight for ``SECONDS``, so many in each request."""
    parts = urlsplit(url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    tally = Tally()
    until = time.monotonic() + SECONDS
    async with asyncio.TaskGroup() as group:
        watched = group.create_task(memory(pid, until))
        for index in range(FACTOR * QUEUE // samples):
            request = infer_request("resnet18", images(samples, shape, seed=index))
            group.create_task(caller(host, port, request, until, tally))
    return tally, watched.result()


def measure(samples: int, scratch: Path) -> tuple[list[Row], Tally]:
    """Serve, flood, and count, with so many samples in each request."""
    shape = (3, 32, 32)
    write_random_bundle(scratch / "models", "resnet18", "resnet18", shape, classes=10)
    config = scratch / "serve.yaml"
    config.write_text(
        f"batching: {{queue_samples: {QUEUE}, deadline_s: {DEADLINE}}}\n"
        f"limits: {{max_request_samples: {QUEUE}}}\n"
        # The callers take the other core; two threads of one batch would wait for each other.
        "threads: 1\n"
    )
    with serving(scratch / "models", "--config", str(config)) as server:
        tally, rss = asyncio.run(offer(server.url, server.pid, shape, samples))
    workload = f"resnet18-32x32-b{samples}-{'cuda' if torch.cuda.is_available() else 'cpu'}"
    settled, last = rss[len(rss) // 3 : 2 * len(rss) // 3], rss[-len(rss) // 3 :]

    def row(subject: str, metric: str, value: float, unit: str) -> Row:
        return Row("overload", workload, subject, metric, value, unit)

    rows = [
        row("queue", "count", QUEUE, "samples"),
        row("in flight", "count", FACTOR * QUEUE, "samples"),
        row("duration", "time", SECONDS, "s"),
        *(row(f"status {s}", "count", n, "answers") for s, n in sorted(tally.statuses.items())),
        *(row(f"connection {e}", "count", n, "errors") for e, n in sorted(tally.broken.items())),
        row("hanging", "count", tally.hanging, "requests"),
        row("accepted", "throughput", samples * len(tally.accepted) / SECONDS, "samples/s"),
        row("deadline", "time", DEADLINE, "s"),
        row("accepted p50", "time", quantile(tally.accepted, 0.50), "s"),
        row("accepted p99", "time", quantile(tally.accepted, 0.99), "s"),
        row("memory, middle third", "memory", float(np.median(settled)), "MiB"),
        Row(
            "overload", workload, "memory, last third", "memory", float(np.median(last)), "MiB",
            "memory, middle third", float(np.median(last) / np.median(settled)),
        ),
    ]  # fmt: skip
    return rows, tally


def main() -> None:
    """Measure, print and keep the result."""
    needed = FACTOR * QUEUE + 512
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(needed, hard)), hard))
    rows: list[Row] = []
    tallies: list[Tally] = []
    for samples in PER_REQUEST:
        with tempfile.TemporaryDirectory() as scratch:
            found, tally = measure(samples, Path(scratch))
        rows += found
        tallies.append(tally)
    write("overload", ["python", "-m", "benchmarks.overload"], rows)
    for tally in tallies:
        strange = set(tally.statuses) - {200, 503, 504}
        if strange or tally.hanging or not tally.accepted:
            sys.exit(f"unexpected: statuses {sorted(strange)}, {tally.hanging} hanging")


if __name__ == "__main__":
    main()

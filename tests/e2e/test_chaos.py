"""Callers that misbehave: the server goes on answering the others, and nothing is left behind."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from benchmarks.wire import answer, images, infer_request
from intaglio.processes import Running, serving

QUEUE = 32
SHAPE = (1, 28, 28)
GARBAGE = (
    b"GET / HTTP/9.9\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"POST /v2/models/none/infer HTTP/1.1\r\nHost: x\r\nContent-Length: nonsense\r\n\r\n",
    b"POST /v2/models/none/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n{{{{{",
    b"POST /v1/models/none/predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
    b"Content-Length: 8\r\n\r\n\x89PNG\r\n\x1a\n",
    b"\x00" * 4096,
)


@pytest.fixture(scope="module")
def small(bundles: Path, config: Path) -> Iterator[Running]:
    """A server whose queue is soon full."""
    settings = (
        "--set", f"batching.queue_samples={QUEUE}", "--set", f"limits.max_request_samples={QUEUE}",
        "--set", "batching.max_batch_size=8", "--set", "batching.deadline_s=5",
    )  # fmt: skip
    with serving(bundles, "--config", str(config), *settings) as running:
        yield running


async def connect(server: Running) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(server.url)
    return await asyncio.open_connection(parts.hostname, parts.port)


async def honest(server: Running) -> int:
    reader, writer = await connect(server)
    writer.write(infer_request("none", images(1, SHAPE, seed=1)))
    async with asyncio.timeout(20):
        status = await answer(reader)
    writer.close()
    return status


async def leaves_after(server: Running, sent: bytes) -> int:
    """Send something and hang up without reading; 0."""
    _, writer = await connect(server)
    writer.write(sent)
    await writer.drain()
    await asyncio.sleep(0.005)
    writer.transport.abort()
    return 0


async def garbage(server: Running, sent: bytes) -> int:
    """Send nonsense and read whatever comes: an error or a closed connection, but not silence."""
    reader, writer = await connect(server)
    writer.write(sent)
    async with asyncio.timeout(20):
        line = await reader.readline()
    writer.close()
    return int(line.split()[1]) if line else 0


def gauge(server: Running, name: str) -> float:
    text = httpx.get(server.metrics_url).text
    return sum(
        float(line.split()[-1])
        for line in text.splitlines()
        if line.split("{")[0].split()[0] == name
    )


def test_still_answers_after_every_kind_of_misbehaviour(small: Running) -> None:
    request = infer_request("none", images(4, SHAPE, seed=2))

    async def storm() -> tuple[list[int], list[int]]:
        bad = [garbage(small, sent) for sent in GARBAGE * 3]
        gone = [leaves_after(small, part) for part in (request, request[: len(request) // 2]) * 20]
        good = [honest(small) for _ in range(20)]
        async with asyncio.TaskGroup() as group:
            tasks = [[group.create_task(caller) for caller in part] for part in (bad, good, gone)]
        return [task.result() for task in tasks[0]], [task.result() for task in tasks[1]]

    refused, served = asyncio.run(storm())
    assert set(refused) <= {0, 400, 415, 503}
    assert 200 in served
    assert set(served) <= {200, 503}
    assert asyncio.run(honest(small)) == 200
    settle = time.monotonic() + 10
    while gauge(small, "intaglio_in_flight_samples") and time.monotonic() < settle:
        time.sleep(0.05)
    assert gauge(small, "intaglio_in_flight_samples") == 0
    assert gauge(small, "intaglio_queued_samples") == 0


def test_ten_times_the_queue(small: Running) -> None:
    """``benchmarks.overload`` in short: every answer is 200, 503 or 504, and none is missing."""
    until = time.monotonic() + 3.0
    statuses: Counter[int] = Counter()
    slowest = 0.0

    async def caller(seed: int) -> None:
        nonlocal slowest
        request = infer_request("none", images(1, SHAPE, seed=seed))
        reader, writer = await connect(small)
        while time.monotonic() < until:
            began = time.monotonic()
            writer.write(request)
            async with asyncio.timeout(20):
                status = await answer(reader)
            statuses[status] += 1
            if status == 200:
                slowest = max(slowest, time.monotonic() - began)
        writer.close()

    async def flood() -> None:
        async with asyncio.TaskGroup() as group:
            for seed in range(10 * QUEUE):
                group.create_task(caller(seed))

    process = psutil.Process(small.pid)
    asyncio.run(flood())
    settled = process.memory_info().rss
    until = time.monotonic() + 3.0
    asyncio.run(flood())
    assert set(statuses) <= {200, 503, 504}
    assert statuses[200] > 0
    assert statuses[503] > 0
    # The deadline is 5 s; the rest is for this process, which shares the machine with the server.
    assert slowest < 10
    assert process.memory_info().rss < 1.15 * settled
    assert asyncio.run(honest(small)) == 200

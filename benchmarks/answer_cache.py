"""What the answer cache saves: the first answer to an image against the second.

    python -m benchmarks.answer_cache

One caller asks a server image after image over one connection, and then the same images again, by
chains of rising cost, with the cache off, in memory, and in Redis. The second answers must be the
first, bit for bit; otherwise the command fails and leaves no result.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import yaml

from benchmarks.envelope import RESULTS, Row, quantile, write
from benchmarks.redis_server import RedisServer
from benchmarks.wire import exchange, images, infer_request
from benchmarks.workloads import write_random_bundle
from intaglio.processes import Running, serving

__all__ = ["measured"]

SHAPE = (1, 28, 28)
WARM_UP = 10
"""Images that are asked before anything is measured, and are not among those that are."""

LAYERS = ["network.features.3.weight", "network.classifier.0.weight"]
CHAINS: Mapping[str, list[dict[str, Any]]] = {
    "plain": [],
    "modelguard-w": [{"kind": "modelguard-w", "epsilon": 0.5}],
    "deepdefense": [{"kind": "deepdefense", "layers": LAYERS}],
}
BACKENDS = ("off", "memory", "redis")


async def _asked(server: Running, model: str, count: int) -> tuple[list[float], list[float]]:
    """Seconds of each first answer, and of each second one."""
    parts = urlsplit(server.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)

    async def ask(request: bytes) -> tuple[float, bytes]:
        began = time.perf_counter()
        writer.write(request)
        status, body = await exchange(reader)
        if status != 200:
            raise RuntimeError(f"{model}: status {status}: {body[:200]!r}")
        return time.perf_counter() - began, body

    requests = [
        infer_request(model, image[None]) for image in images(WARM_UP + count, SHAPE, seed=0)
    ]
    for request in requests[:WARM_UP]:
        await ask(request)
    first = [await ask(request) for request in requests[WARM_UP:]]
    second = [await ask(request) for request in requests[WARM_UP:]]
    writer.close()
    if [body for _, body in first] != [body for _, body in second]:
        raise RuntimeError(f"{model}: a second answer is another than the first")
    return [took for took, _ in first], [took for took, _ in second]


def measured(count: int, scratch: Path) -> list[Row]:
    """The figures of ``count`` images for each chain and backend."""
    rows: list[Row] = []
    write_random_bundle(scratch / "models", "victim", "lenet", SHAPE, classes=10)
    (scratch / "redis").mkdir()
    redis = RedisServer(scratch / "redis")
    redis.start()
    try:
        for backend in BACKENDS:
            config = scratch / f"{backend}.yaml"
            config.write_text(
                yaml.safe_dump(
                    {
                        "models": {
                            name: {
                                "victim": "victim",
                                "defenses": chain,
                                "explanations": {"interpreter": "grad-cam", "unprotected": True},
                            }
                            for name, chain in CHAINS.items()
                        },
                        "cache": {"backend": backend, "shared": True},
                        **({"redis": {"url": redis.url}} if backend == "redis" else {}),
                        "secret_file": str(scratch / "secret"),
                        "threads": 1,
                        "device": "cpu",
                    }
                )
            )
            with serving(scratch / "models", "--config", str(config)) as server:
                for name in CHAINS:
                    first, second = asyncio.run(_asked(server, name, count))
                    rows += _rows(name, backend, first, second)
    finally:
        redis.stop()
    return rows


def _rows(name: str, backend: str, first: list[float], second: list[float]) -> list[Row]:
    before, after = quantile(first, 0.5), quantile(second, 0.5)
    workload = f"{name}, lenet-28x28-b1-cpu"
    subject = f"cache {backend}, first answer, p50"
    return [
        Row("answer-cache", workload, subject, "time", before, "s"),
        Row(
            *("answer-cache", workload, f"cache {backend}, second answer, p50", "time"),
            *(after, "s", subject, after / before),
        ),
    ]


@click.command()
@click.option("--images", "count", type=click.IntRange(min=1), default=100, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS, help="Where it is kept.")
def main(count: int, out: Path) -> None:
    """Measure, print and keep the result."""
    command = ["python", "-m", "benchmarks.answer_cache", "--images", str(count)]
    with tempfile.TemporaryDirectory() as scratch:
        try:
            rows = measured(count, Path(scratch))
        except RuntimeError as error:
            sys.exit(str(error))
    write("answer-cache", command, rows, folder=out)


if __name__ == "__main__":
    main()

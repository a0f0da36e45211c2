"""What batching buys: throughput and latency of one server, batched and unbatched, side by side.

    python -m benchmarks.serving [--rounds 3] [--seconds 4] [--out DIR]

Two servers of the same model run in turn, one with ``max_batch_size`` 64 and one with 1, and are
asked for single images by 1 and by 64 callers at once, then for requests of 64 images by 4 callers.
Each figure is the median of interleaved rounds, and compared within the run only.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from urllib.parse import urlsplit

import click
import torch

from benchmarks.envelope import RESULTS, Row, on_device, quantile, write
from benchmarks.wire import answer, images, infer_request
from benchmarks.workloads import write_random_bundle
from intaglio.processes import serving

WORKLOADS = {"lenet": (1, 28, 28), "resnet18": (3, 32, 32)}
# (callers at once, images per request)
LOADS = ((1, 1), (64, 1), (4, 64))
SUBJECTS = {"batch-1": 1, "dynamic-batching": 64}


async def load(url: str, requests: list[bytes], seconds: float) -> tuple[list[float], float]:
    """Latencies of all requests, each caller asking for ``seconds``; and how long all that took."""
    parts = urlsplit(url)
    latencies: list[float] = []
    began = time.monotonic()
    until = began + seconds

    async def caller(request: bytes) -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        while time.monotonic() < until:
            started = time.monotonic()
            writer.write(request)
            status = await answer(reader)
            if status != 200:
                raise RuntimeError(f"the server answered {status}")
            latencies.append(time.monotonic() - started)
        writer.close()

    async with asyncio.TaskGroup() as group:
        for request in requests:
            group.create_task(caller(request))
    return latencies, time.monotonic() - began


def measure(root: Path, model: str, rounds: int, seconds: float) -> list[Row]:
    """All loads on both servers of ``model``, round by round."""
    shape = WORKLOADS[model]
    write_random_bundle(root / "models", model, model, shape, classes=10)
    throughput: dict[tuple[str, tuple[int, int]], list[float]] = defaultdict(list)
    latency: dict[tuple[str, tuple[int, int]], list[float]] = defaultdict(list)
    for _ in range(rounds):
        for subject, size in SUBJECTS.items():
            config = root / f"{subject}.yaml"
            config.write_text(f"batching: {{max_batch_size: {size}}}\n")
            with serving(root / "models", "--config", str(config)) as server:
                for callers, count in LOADS:
                    asked = [
                        infer_request(model, images(count, shape, seed=seed))
                        for seed in range(callers)
                    ]
                    asyncio.run(load(server.url, asked, 0.5))
                    seen, elapsed = asyncio.run(load(server.url, asked, seconds))
                    throughput[subject, (callers, count)].append(len(seen) * count / elapsed)
                    latency[subject, (callers, count)].extend(seen)
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    rows = []
    for callers, count in LOADS:
        workload = f"{model}-{shape[1]}x{shape[2]}-b{count}-{kind}"
        base = statistics.median(throughput["batch-1", (callers, count)])
        for subject in SUBJECTS:
            named = f"{subject}, {callers} caller{'s' if callers > 1 else ''}"
            value = statistics.median(throughput[subject, (callers, count)])
            waited = latency[subject, (callers, count)]
            compared = subject != "batch-1"
            rows += [
                Row(
                    "serving", workload, named, "throughput", value, "samples/s",
                    f"batch-1, {callers}" if compared else None, value / base if compared else None,
                ),
                Row("serving", workload, f"{named}, p50", "time", quantile(waited, 0.50), "s"),
                Row("serving", workload, f"{named}, p99", "time", quantile(waited, 0.99), "s"),
            ]  # fmt: skip
    return rows


@click.command()
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.1),
    default=4.0,
    show_default=True,
    help="Of each load, in each round.",
)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False),
    help="Where the result goes, instead of to the committed ones.",
)  # fmt: skip
def main(rounds: int, seconds: float, out: Path | None) -> None:
    """Measure, print and keep the result."""
    rows = []
    for model in WORKLOADS:
        with tempfile.TemporaryDirectory() as scratch:
            rows += measure(Path(scratch), model, rounds, seconds)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    command = ["python", "-m", "benchmarks.serving"]
    command += ["--rounds", str(rounds), "--seconds", f"{seconds:g}"]
    name = on_device("serving", device)
    write(name, command, rows, folder=out or RESULTS, device=device)


if __name__ == "__main__":
    main()

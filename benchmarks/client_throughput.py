"""How much of a server's speed a thief gets: the attack client against wrk, in the same run.

    python -m benchmarks.client_throughput [--seconds 10] [--rounds 3]

One server of a ResNet-18 with random weights is asked for 64 images per request over 4 connections:
by ``HttpVictim`` under the budgeted oracle, every answer on disk before the next is asked for, and
by wrk, which repeats the same payload and throws the answers away. Rounds are interleaved; each
figure is the median.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import click
import numpy as np

from attack_client import v2
from attack_client.attacks.knockoff import Knockoff
from attack_client.contract import Pool
from attack_client.http_victim import HttpVictim
from attack_client.theft import steal
from benchmarks.envelope import Row, write
from benchmarks.workloads import write_random_bundle
from intaglio.processes import serving

SHAPE = (3, 32, 32)
BATCH = 64
CONNECTIONS = 4
MODEL = "resnet18"
TARGET = 0.9


def lua(headers: dict[str, str], payload: Path) -> str:
    """Wrk's script: the same request for ever."""
    lines = [
        f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in headers.items()
    ]
    return "\n".join(
        [
            'wrk.method = "POST"',
            *lines,
            f'local file = io.open({json.dumps(str(payload))}, "rb")',
            'wrk.body = file:read("*a")',
            "file:close()",
        ]
    )


def by_wrk(url: str, script: Path, seconds: int) -> float:
    """Samples per second that wrk gets."""
    said = subprocess.run(
        [
            *("wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "30s"),
            *("-s", str(script), f"{url}/v2/models/{MODEL}/infer"),
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    if "Non-2xx" in said:
        raise RuntimeError(f"the server refused wrk: {said}")
    found = re.search(r"(\d+) requests in ([\d.]+)(m?s)", said)
    if found is None:
        raise RuntimeError(f"wrk said something else: {said}")
    taken = float(found.group(2)) * (0.001 if found.group(3) == "ms" else 1.0)
    return int(found.group(1)) * BATCH / taken


async def by_client(url: str, pool: Pool, out: Path, budget: int) -> float:
    """Samples per second that a theft gets, transfer set included."""
    async with HttpVictim(url, MODEL) as victim:
        began = time.monotonic()
        stolen = await steal(
            victim,
            pool,
            Knockoff(),
            budget=budget,
            out=out,
            batch=BATCH,
            concurrency=CONNECTIONS,
        )
        taken = time.monotonic() - began
        stolen.close()
    return budget / taken


@click.command()
@click.option("--seconds", type=click.IntRange(1, 60), default=10, show_default=True)
@click.option("--rounds", type=click.IntRange(1, 9), default=3, show_default=True)
def main(seconds: int, rounds: int) -> None:
    """Measure, print and keep the result."""
    if shutil.which("wrk") is None:
        raise click.ClickException("this needs wrk: apt-get install wrk")
    found: dict[str, list[float]] = {"wrk": [], "attack client": []}
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        write_random_bundle(root / "models", MODEL, MODEL, SHAPE, classes=10)
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (BATCH, *SHAPE), dtype=np.uint8)
        signature = v2.ModelSignature("images", "UINT8", SHAPE, "probabilities", 10)
        headers, body = v2.encode_query(signature, images, binary=True)
        payload, script = root / "payload", root / "post.lua"
        payload.write_bytes(body)
        script.write_text(lua(headers, payload))
        # On a slow machine four such requests take longer than the default deadline.
        config = root / "serve.yaml"
        config.write_text("batching: {deadline_s: 120}\n")
        with serving(root / "models", "--config", str(config)) as server:
            by_wrk(server.url, script, 2)
            for number in range(rounds):
                rate = by_wrk(server.url, script, seconds)
                found["wrk"].append(rate)
                # As many requests as wrk was answered in its time.
                budget = BATCH * max(CONNECTIONS, round(rate * seconds / BATCH))
                noise = rng.integers(0, 256, (budget, *SHAPE), dtype=np.uint8)
                pool = Pool("noise", noise, np.zeros(budget, dtype=np.int64))
                out = root / f"theft-{number}"
                found["attack client"].append(asyncio.run(by_client(server.url, pool, out, budget)))
    base = statistics.median(found["wrk"])
    rows = [
        Row(
            "client-throughput",
            f"{MODEL}-32x32-b{BATCH}-cpu",
            subject,
            "throughput",
            statistics.median(rates),
            "samples/s",
            None if subject == "wrk" else "wrk",
            None if subject == "wrk" else statistics.median(rates) / base,
        )
        for subject, rates in found.items()
    ]
    command = ["python", "-m", "benchmarks.client_throughput"]
    command += ["--seconds", str(seconds), "--rounds", str(rounds)]
    write("client-throughput", command, rows)
    ratio = statistics.median(found["attack client"]) / base
    click.echo(f"{ratio:.1%} of wrk; the target is {TARGET:.0%}")


if __name__ == "__main__":
    main()

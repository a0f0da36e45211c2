"""How much of a server's speed a thief gets: the attack client against wrk, in the same run.

    python -m benchmarks.client_throughput [--seconds 20] [--rounds 6]

One server of a ResNet-18 with random weights is asked for 64 images per request over 4 connections:
by ``HttpVictim`` under the budgeted oracle, every answer on disk before it counts, and by wrk,
which repeats the same payload and throws the answers away. Both are cut off after the same time,
and what was answered by then counts. Rounds alternate, and so does who comes first in one, so that
a machine that becomes slower favours nobody; figures are medians. Needs wrk: ``apt-get install
wrk``, or ``brew install wrk``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import httpx
import numpy as np

from attack_client import v2
from attack_client.attacks.knockoff import Knockoff
from attack_client.contract import Pool
from attack_client.http_victim import HttpVictim
from attack_client.theft import steal
from attack_client.transfer_set import TransferSet
from attack_client.v2_metadata import ModelSignature
from benchmarks.envelope import Row, write
from benchmarks.workloads import write_random_bundle
from intaglio.processes import serving

SHAPE = (3, 32, 32)
BATCH = 64
CONNECTIONS = 4
MODEL = "resnet18"
TARGET = 0.9
WRK, CLIENT = "wrk", "attack client"


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
            *("wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "60s"),
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


async def by_client(url: str, pool: Pool, out: Path, seconds: float) -> float:
    """Samples per second that a theft gets on its disk in ``seconds``, or until the pool ends."""
    async with HttpVictim(url, MODEL) as victim:
        began = time.monotonic()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                stolen = await steal(
                    victim,
                    pool,
                    Knockoff(),
                    budget=len(pool.images),
                    out=out,
                    batch=BATCH,
                    concurrency=CONNECTIONS,
                )
                stolen.close()
        taken = time.monotonic() - began
    with TransferSet.read(out) as stolen:
        return stolen.recorded / taken


def settle(metrics_url: str) -> None:
    """Wait until the server has done what nobody waits for any more."""
    for _ in range(300):
        lines = httpx.get(metrics_url).text.splitlines()
        busy = [line for line in lines if line.startswith("intaglio_in_flight_samples")]
        if all(float(line.split()[-1]) == 0 for line in busy):
            return
        time.sleep(0.1)
    raise RuntimeError("the server is still busy half a minute after it was last asked")


def told(rates: Sequence[float]) -> str:
    """Rates as people read them."""
    return ", ".join(f"{rate:.0f}" if rate >= 100 else f"{rate:.1f}" for rate in rates)


def notes(found: Mapping[str, Sequence[float]], load: float, seconds: int) -> list[str]:
    """What the figures are worth, in sentences."""
    pairs = zip(found[CLIENT], found[WRK], strict=True)
    shares = sorted(ours / theirs for ours, theirs in pairs)
    ratio = statistics.median(found[CLIENT]) / statistics.median(found[WRK])
    verdict = "met" if ratio >= TARGET else "missed"
    cores = os.cpu_count() or 1
    sentences = [
        f"{len(shares)} rounds of {seconds} s each. Samples/s of wrk: {told(found[WRK])}; of the "
        f"attack client: {told(found[CLIENT])}. Round by round the client has {shares[0]:.0%} to "
        f"{shares[-1]:.0%} of wrk, and {ratio:.1%} of it by the medians: the target of "
        f"{TARGET:.0%} is {verdict}.",
        "What is half done when the time is over counts for neither, so a rate is known to one "
        f"request: {1 / max(1.0, statistics.median(found[WRK]) * seconds / BATCH):.1%} of it here.",
    ]
    if load > cores / 4:
        sentences.append(
            f"The machine was at a load of {load:.1f} on {cores} cores before the first round: "
            "other programs ran, so the speeds are not the machine's own."
        )
    return sentences


@click.command()
@click.option("--seconds", type=click.IntRange(1, 60), default=20, show_default=True)
@click.option("--rounds", type=click.IntRange(1, 20), default=6, show_default=True)
def main(seconds: int, rounds: int) -> None:
    """Measure, print and keep the result."""
    if shutil.which("wrk") is None:
        raise click.ClickException("this needs wrk: apt-get install wrk, or brew install wrk")
    load = os.getloadavg()[0]
    found: dict[str, list[float]] = {WRK: [], CLIENT: []}
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        write_random_bundle(root / "models", MODEL, MODEL, SHAPE, classes=10)
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (BATCH, *SHAPE), dtype=np.uint8)
        signature = ModelSignature("images", "UINT8", SHAPE, "probabilities", 10)
        headers, body = v2.encode_query(signature, images, binary=True)
        payload, script = root / "payload", root / "post.lua"
        payload.write_bytes(body)
        script.write_text(lua(headers, payload))
        # On a slow machine four such requests take longer than the default deadline.
        config = root / "serve.yaml"
        config.write_text("batching: {deadline_s: 120}\n")
        with serving(root / "models", "--config", str(config)) as server:
            # More than can be stolen in a round, or the client would be done before wrk is.
            enough = BATCH * max(
                CONNECTIONS, round(2 * by_wrk(server.url, script, 5) * seconds / BATCH)
            )
            noise = rng.integers(0, 256, (enough, *SHAPE), dtype=np.uint8)
            pool = Pool("noise", noise, np.zeros(enough, dtype=np.int64))
            for number in range(rounds):
                for subject in (WRK, CLIENT) if number % 2 == 0 else (CLIENT, WRK):
                    settle(server.metrics_url)
                    if subject == WRK:
                        rate = by_wrk(server.url, script, seconds)
                    else:
                        out = root / f"theft-{number}"
                        rate = asyncio.run(by_client(server.url, pool, out, seconds))
                    found[subject].append(rate)
                    click.echo(f"round {number + 1} of {rounds}: {subject} {rate:.1f} samples/s")
    base = statistics.median(found[WRK])
    rows = []
    for subject, rates in found.items():
        for metric, value in (
            ("throughput", statistics.median(rates)),
            ("throughput, lowest", min(rates)),
            ("throughput, highest", max(rates)),
        ):
            compared = subject == CLIENT and metric == "throughput"
            rows.append(
                Row(
                    "client-throughput",
                    f"{MODEL}-32x32-b{BATCH}-cpu",
                    subject,
                    metric,
                    value,
                    "samples/s",
                    WRK if compared else None,
                    value / base if compared else None,
                )
            )
    command = ["python", "-m", "benchmarks.client_throughput"]
    command += ["--seconds", str(seconds), "--rounds", str(rounds)]
    write("client-throughput", command, rows, notes=notes(found, load, seconds))


if __name__ == "__main__":
    main()

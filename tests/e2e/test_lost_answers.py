"""Answers that were charged and lost are had for nothing, of a key that has nothing left."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import numpy as np
import pytest
from click.testing import CliRunner

from attack_client import HttpVictim, Knockoff, Pool, RetryPolicy, steal
from attack_client.errors import OverBudget, Unreachable
from benchmarks.workloads import write_random_bundle
from intaglio.cli import main
from intaglio.processes import serving

SHAPE = (1, 12, 12)


class Losing(httpx.AsyncHTTPTransport):
    """Sends requests; of the first inferences it loses every answer but the first."""

    inferences = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        if request.url.path.endswith("/infer"):
            self.inferences += 1
            if self.inferences > 1:
                await response.aread()
                raise httpx.ReadError("lost")
        return response


def test_a_theft_goes_on_to_the_last_sample_of_its_key(tmp_path: Path) -> None:
    write_random_bundle(tmp_path / "models", "small", "cnn-small", SHAPE, classes=10)
    config = tmp_path / "serve.yaml"
    config.write_text(
        f"state_dir: {tmp_path}/state\nsecret_file: {tmp_path}/secret\nthreads: 1\n"
        "callers: {store: file}\n"
    )
    images = np.random.default_rng(0).integers(0, 256, (60, *SHAPE), dtype=np.uint8)
    pool = Pool("noise", images, np.zeros(60, dtype=np.int64))

    async def rob(url: str, key: str, budget: int, *, losing: bool = False) -> int:
        victim = HttpVictim(
            url,
            "small",
            api_key=key,
            retry=RetryPolicy(attempts=1),
            transport=Losing() if losing else None,
        )
        async with victim:
            stolen = await steal(
                victim, pool, Knockoff(), budget=budget, out=tmp_path / "theft", batch=8,
                resume=True,
            )  # fmt: skip
            with stolen:
                return stolen.complete

    with serving(tmp_path / "models", "--config", str(config), "--device", "cpu") as server:
        made = CliRunner().invoke(
            main, ["keys", "--config", str(config), "create", "--lifetime", "40"]
        )
        key = made.stdout.strip()
        with pytest.raises(Unreachable, match="lost"):
            asyncio.run(rob(server.url, key, 40, losing=True))
        headers = {"x-api-key": key}
        used = httpx.get(f"{server.url}/v1/usage", headers=headers).json()["lifetime"]["used"]
        assert used > 8, "more was charged than was had"
        assert asyncio.run(rob(server.url, key, 40)) == 40
        with pytest.raises(OverBudget, match="0 samples are left"):
            asyncio.run(rob(server.url, key, 50))

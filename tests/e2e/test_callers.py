"""An operator's day: keys made and revoked under way, a kill, and the audit after it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from click.testing import CliRunner

from benchmarks.workloads import write_random_bundle
from intaglio.cli import main
from intaglio.processes import Running, serving

SHAPE = (1, 12, 12)


def run(*arguments: str) -> str:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def ask(server: Running, key: str, seed: int, *, once: str | None = None) -> httpx.Response:
    pixels = np.random.default_rng(seed).integers(0, 256, (2, *SHAPE), dtype=np.uint8)
    tensor = {
        "name": "images", "datatype": "UINT8", "shape": list(pixels.shape),
        "data": pixels.flatten().tolist(),
    }  # fmt: skip
    headers = {"x-api-key": key} | ({} if once is None else {"idempotency-key": once})
    url = f"{server.url}/v2/models/small/infer"
    return httpx.post(url, json={"inputs": [tensor]}, headers=headers, timeout=30)


def used(server: Running, key: str) -> int:
    told = httpx.get(f"{server.url}/v1/usage", headers={"x-api-key": key}, timeout=30).json()
    count: int = told["lifetime"]["used"]
    return count


def test_keys_budgets_and_audit_of_a_server_that_is_killed(tmp_path: Path) -> None:
    write_random_bundle(tmp_path / "models", "small", "cnn-small", SHAPE, classes=10)
    config = tmp_path / "serve.yaml"
    config.write_text(
        f"state_dir: {tmp_path}/state\nsecret_file: {tmp_path}/secret\nthreads: 1\n"
        f"callers: {{store: file}}\naudit: {{directory: {tmp_path}/audit}}\n"
    )
    keys = ("keys", "--config", str(config))
    options = ("--config", str(config), "--device", "cpu")
    with serving(tmp_path / "models", *options) as server:
        assert ask(server, "nobody", 0).status_code == 401
        key = run(*keys, "create", "--lifetime", "8").strip()
        first = ask(server, key, 1, once="first")
        assert first.status_code == 200
        assert ask(server, key, 1, once="first").content == first.content
        assert ask(server, key, 2).status_code == 200
        assert used(server, key) == 4
        os.kill(server.pid, signal.SIGKILL)
    with serving(tmp_path / "models", *options) as server:
        assert used(server, key) == 4
        again = ask(server, key, 1, once="first")
        assert again.status_code == 200
        assert used(server, key) == 4
        rows = [one.json()["outputs"][0]["data"] for one in (first, again)]
        assert np.abs(np.subtract(*rows)).max() < 1e-6
        assert ask(server, key, 3, once="first").status_code == 409
        assert [ask(server, key, seed).status_code for seed in (4, 5, 6)] == [200, 200, 429]
        run(*keys, "revoke", key.split("_")[1])
        assert ask(server, key, 7).status_code == 401
    summary: dict[str, Any]
    (summary,) = json.loads(run("audit", str(tmp_path / "audit"), "--json"))
    assert summary["charged"] == 8
    assert summary["samples"] == 12
    assert summary["distinct_images"] == 8
    assert summary["refused"] == {"conflict": 1, "over-limit": 1}
    # The engine has told how sure the victim was of every image.
    assert summary["judged_samples"] == 12

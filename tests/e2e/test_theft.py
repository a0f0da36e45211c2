"""Theft over a real socket from a real server: killed, resumed, accounted for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from intaglio.processes import Running

BUDGET = 4000
BATCH = 8
CONCURRENCY = 2


def attack(server: Running, bundles: Path, out: Path, *more: str) -> list[str]:
    return [
        sys.executable, "-P", "-m", "attack_client", "knockoff", "--url", server.url,
        "--model", "none", "--pool", "letters", "--budget", f"500,{BUDGET}",
        "--labels", "soft,hard",
        "--clone", "cnn-small", "--test", "digits", "--out", str(out), "--epochs", "2",
        "--batch", str(BATCH), "--concurrency", str(CONCURRENCY), "--latency-requests", "20",
        "--reference", str(bundles / "digits-plain" / "1"), "--defense", "none", *more,
    ]  # fmt: skip


def answered(server: Running) -> int:
    """Samples that the server says it answered for the model ``none``."""
    for line in httpx.get(server.metrics_url).text.splitlines():
        if line.startswith('intaglio_samples_total{model="none"}'):
            return int(float(line.split()[-1]))
    return 0


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_killed_theft_resumes_and_pays_once(server: Running, bundles: Path, tmp_path: Path) -> None:
    before = answered(server)
    thief = subprocess.Popen(attack(server, bundles, tmp_path), stdout=subprocess.DEVNULL)
    patience = time.monotonic() + 120
    while answered(server) - before < BUDGET // 4 and time.monotonic() < patience:
        time.sleep(0.02)
    os.kill(thief.pid, signal.SIGKILL)
    thief.wait()
    had = answered(server) - before
    assert BUDGET // 4 <= had < BUDGET, "killed too early or too late to show anything"
    assert not (tmp_path / "report.json").exists()

    again = subprocess.run(
        attack(server, bundles, tmp_path), capture_output=True, text=True, check=False
    )
    assert again.returncode == 2
    assert "--resume" in again.stderr

    subprocess.run(attack(server, bundles, tmp_path, "--resume"), check=True, capture_output=True)
    rows = json.loads((tmp_path / "report.json").read_text())["rows"]
    assert {(row["labels"], row["budget"]) for row in rows} == {
        (labels, budget) for labels in ("soft", "hard") for budget in (500, BUDGET)
    }
    row = rows[-1]
    honest = row["evaluation_queries"]
    in_flight = BATCH * CONCURRENCY
    paid = answered(server) - before - honest
    assert BUDGET <= paid <= BUDGET + in_flight
    assert paid <= row["sent"] <= BUDGET + in_flight
    for row in rows:
        assert row["queries"] == row["unique_queries"] == row["budget"]
        assert row["victim_accuracy"] == row["benign_accuracy"]
        assert row["benign_l1"] < 1e-4
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_unknown_model_ends_with_a_sentence(server: Running, bundles: Path, tmp_path: Path) -> None:
    command = attack(server, bundles, tmp_path)
    command[command.index("none")] = "nobody"
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "nobody" in ended.stderr
    assert "Traceback" not in ended.stderr

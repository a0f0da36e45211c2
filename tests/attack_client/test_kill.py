"""kill -9 in the middle of a real theft: nothing had is lost or asked again."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from attack_client.cli import attack
from attack_client.report import read_json
from attack_client.transfer_set import TransferSet
from tests.attack_client.conftest import Serve
from tests.attack_client.stub import LinearModel, Stub

BUDGET, BATCH, CONCURRENCY = 400, 8, 4


def recorded_digests(stolen: TransferSet) -> set[str]:
    """Digests of the images whose answers are on disk."""
    missing = {
        position
        for start, count in stolen.missing(0, BUDGET)
        for position in range(start, start + count)
    }
    return {
        hashlib.sha256(stolen.answers(position, 1)[0].tobytes()).hexdigest()
        for position in range(BUDGET)
        if position not in missing
    }


TRAINED_ON_THE_WAY = ("jbda", "--set", "seeds=150", "--set", "epochs=1", "--set", "step=strong")


@pytest.mark.parametrize(
    ("kind", "idempotent"),
    [(("knockoff",), False), (("knockoff",), True), (TRAINED_ON_THE_WAY, False)],
)
def test_a_killed_theft_goes_on_where_it_stopped(
    model: LinearModel,
    serve: Serve,
    npz_root: Path,
    tmp_path: Path,
    kind: tuple[str, ...],
    idempotent: bool,
) -> None:
    stub = Stub(model, idempotent=idempotent, delay_s=0.05)
    out = tmp_path / "run"
    with serve(stub) as url:
        arguments = [
            *(*kind, "--url", url, "--model", "toy"),
            *("--pool", "noise", "--test", "task", "--data-root", str(npz_root)),
            *("--budget", str(BUDGET), "--batch", str(BATCH), "--concurrency", str(CONCURRENCY)),
            *("--clone", "cnn-small", "--epochs", "1", "--latency-requests", "0"),
            *("--device", "cpu", "--out", str(out)),
        ]
        command = [sys.executable, "-m", "attack_client", *arguments]
        log = (tmp_path / "log").open("wb")
        with log, subprocess.Popen(command, stdout=log, stderr=log) as thief:
            deadline = time.monotonic() + 60
            while stub.samples < BUDGET // 2:
                assert thief.poll() is None, (tmp_path / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.005)
            os.kill(thief.pid, signal.SIGKILL)
            thief.wait()
        time.sleep(0.2)  # what is in flight arrives at the stub
        at_kill, asked_before = stub.samples, len(stub.thefts)
        assert at_kill < BUDGET, "the kill came too late to show anything"
        with TransferSet.read(out / "transfer") as stolen:
            had = stolen.recorded
            had_images = recorded_digests(stolen)
            assert len(had_images) == had
            assert had <= at_kill <= had + BATCH * CONCURRENCY
            assert stolen.sent() - had <= BATCH * CONCURRENCY

        resumed = CliRunner().invoke(attack, [*arguments, "--resume"])
        assert resumed.exit_code == 0, resumed.output

    theft = [digests for _, digests in stub.thefts[asked_before:]]
    asked_again = {digest for digests in theft for digest in digests} & had_images
    assert not asked_again
    assert sum(map(len, theft)) == BUDGET - had
    [row] = read_json(out / "report.json").rows
    charged = stub.samples - row.evaluation_queries
    assert (row.queries, row.unique_queries) == (BUDGET, BUDGET)
    if idempotent:
        assert charged == BUDGET
    assert BUDGET <= charged <= row.sent <= BUDGET + BATCH * CONCURRENCY

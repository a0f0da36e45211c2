"""A theft from the real server through all that can go wrong with it, and both sides' accounts."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
import torch
import yaml

from attack_client.appending import append as write
from attack_client.attacks.knockoff import Knockoff
from attack_client.contract import Pool
from attack_client.errors import AttackError, Refused, TransferSetError
from attack_client.http_victim import HttpVictim
from attack_client.oracle import Tally
from attack_client.retry import RetryPolicy
from attack_client.theft import steal
from attack_client.transfer_set import TransferSet
from benchmarks.workloads import write_random_bundle
from intaglio.processes import Running, serving
from models.bundle import open_bundle
from models.training.evaluate import probabilities
from server.callers.assembly import build_callers
from server.settings import Settings

MODEL, SHAPE, CLASSES = "toy", (1, 12, 12), 10
BUDGET, BATCH, CONCURRENCY = 1200, 8, 4
KILLS, REVOKED = (200, 400), 600
# A server that starts again is waited for, and not for long once it is back.
PATIENT = RetryPolicy(attempts=300, base_s=0.2, cap_s=0.4, patience_s=90)


@dataclass
class Service:
    """The server as a process that is killed, and started again at the same place."""

    models: Path
    config: Path
    port: int = 0
    running: Running | None = None
    _life: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _starting: threading.Thread | None = None

    def start(self) -> None:
        arguments = ("--config", str(self.config), "--port", str(self.port))
        self.running = self._life.enter_context(serving(self.models, *arguments))
        self.port = urlsplit(self.running.url).port or 0

    def kill(self) -> None:
        """SIGKILL; the next process is on its way when this returns."""
        assert self.running is not None
        os.kill(self.running.pid, signal.SIGKILL)
        self._life.close()
        self._starting = threading.Thread(target=self.start)
        self._starting.start()

    def stop(self) -> None:
        if self._starting is not None:
            self._starting.join()
        self._life.close()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    write_random_bundle(tmp_path / "models", MODEL, "cnn-small", SHAPE, classes=CLASSES)
    config = tmp_path / "serve.yaml"
    settings = {
        "state_dir": str(tmp_path / "state"),
        "secret_file": str(tmp_path / "secret"),
        "callers": {"store": "file"},
        "audit": {"directory": str(tmp_path / "audit")},
        "threads": 1,
        "docs": False,
    }
    config.write_text(yaml.safe_dump(settings))
    running = Service(tmp_path / "models", config)
    running.start()
    yield running
    running.stop()


def intaglio(*arguments: str) -> str:
    """What a command of an operator prints."""
    command = [str(Path(sys.executable).with_name("intaglio")), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def rob(
    service: Service, pool: Pool, out: Path, key: str, *, watch: Callable[[Tally], None]
) -> AttackError | None:
    """Steal, or go on with it; the reason where it stopped before its end."""

    async def run() -> None:
        assert service.running is not None
        victim = HttpVictim(service.running.url, MODEL, api_key=key, retry=PATIENT, timeout_s=20)
        async with victim:
            stolen = await steal(
                victim,
                pool,
                Knockoff(seed=1),
                budget=BUDGET,
                out=out,
                resume=True,
                batch=BATCH,
                concurrency=CONCURRENCY,
                watch=watch,
            )
            stolen.close()

    try:
        asyncio.run(run())
    except AttackError as error:
        return error
    return None


def used_by_the_ledger(config: Path, models: Path, keys: list[str]) -> dict[str, int]:
    """What the accounts of ``keys`` have used, read when no server has them open."""
    chosen = Settings(model_dir=models, **yaml.safe_load(config.read_text()))

    async def read() -> dict[str, int]:
        callers = build_callers(chosen)
        assert callers.ledger is not None
        await callers.ledger.start()
        try:
            return {key: (await callers.ledger.used(f"key-{key}")).lifetime for key in keys}
        finally:
            await callers.ledger.close()

    return asyncio.run(read())


@pytest.mark.timeout(180)
def test_two_kills_a_revoked_key_and_a_full_disk(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = ("keys", "--config", str(service.config))
    first, second = (intaglio(*keys, "create", "--name", name) for name in ("first", "second"))
    ids = [key.split("_")[1] for key in (first, second)]
    draws = np.random.default_rng(0)
    images = draws.integers(0, 256, (BUDGET + 50, *SHAPE), dtype=np.uint8)
    pool = Pool("noise", images, np.zeros(len(images), dtype=np.int64))
    out = tmp_path / "theft"
    kills = list(KILLS)

    def trouble(tally: Tally) -> None:
        """The server is killed twice, then the key is revoked."""
        if kills and tally.had >= kills[0]:
            kills.pop(0)
            service.kill()
        elif not kills and REVOKED <= tally.had < REVOKED + BATCH:
            intaglio(*keys, "revoke", ids[0])

    # It lives through both kills, and ends when its key does.
    ended = rob(service, pool, out, first, watch=trouble)
    assert isinstance(ended, Refused), ended
    assert ended.status == 401
    assert "give a valid key" in str(ended)
    assert first not in str(ended)
    assert not kills

    # Under another key it goes on until the disk is full, in the middle of a record.
    full = iter([False] * 20 + [True])

    def append(descriptor: int, data: bytes) -> None:
        if next(full, False):
            write(descriptor, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(descriptor, data)

    monkeypatch.setattr("attack_client.transfer_set.append", append)
    ended = rob(service, pool, out, second, watch=lambda tally: None)
    assert isinstance(ended, TransferSetError), ended
    assert "records.bin: No space left on device" in str(ended)
    with TransferSet.read(out) as stolen:
        assert REVOKED <= stolen.recorded < BUDGET

    # With room on it, it comes to its end.
    assert rob(service, pool, out, second, watch=lambda tally: None) is None
    assert service.running is not None
    usage = httpx.get(f"{service.running.url}/v1/usage", headers={"X-API-Key": second}).json()
    refused = httpx.get(f"{service.running.url}/v1/usage", headers={"X-API-Key": first})
    assert refused.status_code == 401
    service.stop()

    # The right transfer set: the right images, and to each what the network says.
    with TransferSet.read(out) as stolen:
        asked, answers = stolen.prefix(BUDGET)
        sent, paid = stolen.sent(), stolen.paid(BUDGET)
    order = np.random.default_rng(1).permutation(len(images))[:BUDGET]
    np.testing.assert_array_equal(asked, images[order])
    network = open_bundle(tmp_path / "models" / MODEL / "1").load("victim")
    said = probabilities(network, torch.from_numpy(asked))
    np.testing.assert_allclose(answers, said.numpy(), atol=2e-5)

    # The accounts: every sample is charged once, whoever looks.
    in_flight = BATCH * CONCURRENCY
    used = used_by_the_ledger(service.config, service.models, ids)
    assert usage["lifetime"]["used"] == used[ids[1]]
    assert paid == BUDGET
    # What a kill cut off may still wait for another attempt when its key is revoked: the first has
    # paid for it and hears nothing, and to the second, who asks again, it is new.
    assert BUDGET <= sum(used.values()) <= BUDGET + in_flight
    assert REVOKED <= used[ids[0]] <= REVOKED + in_flight
    assert BUDGET < sent <= BUDGET + (PATIENT.attempts + 2) * 2 * in_flight
    callers = json.loads(intaglio("audit", str(tmp_path / "audit"), "--json"))
    audited = {caller["key"].removeprefix("key-"): caller["charged"] for caller in callers}
    assert audited[ids[1]] == used[ids[1]]
    # A charge whose request a kill cut off has no line: it is answered later, at no charge.
    assert used[ids[0]] - 2 * in_flight <= audited[ids[0]] <= used[ids[0]]

"""A theft through everything at once: a server that dies twice, a revoked key, a full disk."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from pathlib import Path

import httpx
import numpy as np
import pytest

from attack_client.appending import append as write
from attack_client.attacks.knockoff import Knockoff
from attack_client.contract import Pool
from attack_client.errors import AttackError, Refused, TransferSetError, Unreachable
from attack_client.http_victim import HttpVictim
from attack_client.retry import RetryPolicy
from attack_client.theft import steal
from attack_client.transfer_set import TransferSet
from tests.attack_client.conftest import Serve
from tests.attack_client.stub import LinearModel, Stub

BUDGET, BATCH, CONCURRENCY = 320, 8, 4


def rob(url: str, pool: Pool, out: Path, key: str) -> None:
    async def run() -> None:
        # A connection that is refused is tried again at once, and not for minutes.
        retry = RetryPolicy(attempts=3, base_s=0.01, cap_s=0.02)
        async with HttpVictim(url, "toy", api_key=key, retry=retry, timeout_s=10) as victim:
            stolen = await steal(
                victim,
                pool,
                Knockoff(seed=1),
                budget=BUDGET,
                out=out,
                resume=True,
                moved=True,
                batch=BATCH,
                concurrency=CONCURRENCY,
            )
            stolen.close()

    asyncio.run(run())


def test_the_drill_ends_with_the_right_transfer_set_and_the_servers_own_accounts(
    model: LinearModel,
    pool: Pool,
    serve: Serve,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stub = Stub(model, key="first", idempotent=True, delay_s=0.01)
    said: list[AttackError] = []

    def until(samples: int, url: str, key: str, *, then: object = None) -> None:
        """Steal until the server has answered ``samples``; then it is made to stop."""
        stop = threading.Event()

        def watch() -> None:
            while stub.samples < samples and not stop.is_set():
                stop.wait(0.002)
            if callable(then):
                then()

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            rob(url, pool, tmp_path, key)
        except AttackError as error:
            said.append(error)
        finally:
            stop.set()
            watcher.join()

    # Twice the server dies in the middle: it answers nothing any more, then it is back.
    for samples in (60, 120):
        stub.refuse = None
        with serve(stub) as url:
            until(samples, url, "first", then=lambda: setattr(stub, "refuse", "reset"))
        assert isinstance(said[-1], Unreachable), said
    stub.refuse = None

    # The key is revoked half way.
    with serve(stub) as url:
        until(180, url, "first", then=lambda: setattr(stub, "key", "second"))
    assert isinstance(said[-1], Refused)
    assert said[-1].status == 401
    assert "first" not in str(said[-1])

    # The disk is full once.
    full = iter([False] * 3 + [True])

    def append(descriptor: int, data: bytes) -> None:
        if len(data) > 100 and next(full, False):
            os.write(descriptor, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(descriptor, data)

    monkeypatch.setattr("attack_client.transfer_set.append", append)
    with serve(stub) as url:
        until(BUDGET, url, "second")
    assert isinstance(said[-1], TransferSetError)
    assert "No space left on device" in str(said[-1])

    with serve(stub) as url:
        rob(url, pool, tmp_path, "second")
    with TransferSet.read(tmp_path) as stolen:
        images, answers = stolen.prefix(BUDGET)
        order = np.random.default_rng(1).permutation(len(pool.images))[:BUDGET]
        np.testing.assert_array_equal(images, pool.images[order])
        np.testing.assert_array_equal(answers, model(images))
        assert stub.samples == BUDGET, "what the server charged is what there is"
        assert BUDGET <= stolen.sent() <= BUDGET + 4 * 3 * BATCH * CONCURRENCY
        assert stolen.paid(BUDGET) == BUDGET


def test_a_server_written_from_the_protocol_alone_is_all_it_takes(
    model: LinearModel, pool: Pool, tmp_path: Path
) -> None:
    """The stub knows V2 and nothing of ours: no usage, no idempotency, JSON only."""

    async def run() -> None:
        transport = httpx.ASGITransport(Stub(model, datatype="FP32", binary=False))
        async with HttpVictim("http://victim", "toy", transport=transport) as victim:
            assert await victim.allowance() is None
            (await steal(victim, pool, Knockoff(), budget=16, out=tmp_path)).close()

    asyncio.run(run())
    with TransferSet.read(tmp_path) as stolen:
        images, answers = stolen.prefix(16)
    np.testing.assert_allclose(answers, model(images), atol=1e-6)

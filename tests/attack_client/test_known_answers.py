"""Nobody pays twice: equal images, before and after a kill."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import numpy as np
import pytest

from attack_client.attacks.knockoff import Knockoff
from attack_client.contract import Attack, Pool
from attack_client.http_victim import HttpVictim
from attack_client.retry import RetryPolicy
from attack_client.theft import steal
from attack_client.transfer_set import TransferSet
from tests.attack_client.stub import Fault, LinearModel, Stub


def rob(
    stub: Stub,
    pool: Pool,
    out: Path,
    budget: int,
    *,
    seed: int = 0,
    batch: int = 8,
    attack: Attack | None = None,
) -> None:
    async def run() -> None:
        transport = httpx.ASGITransport(stub)
        retry = RetryPolicy(attempts=2, base_s=0.0)
        async with HttpVictim("http://victim", "toy", transport=transport, retry=retry) as victim:
            stolen = await steal(
                victim,
                pool,
                attack or Knockoff(seed=seed),
                budget=budget,
                out=out,
                batch=batch,
                resume=True,
            )
            stolen.close()

    asyncio.run(run())


@pytest.fixture
def twins(model: LinearModel) -> Pool:
    """Thirty images, each there three times."""
    images = np.repeat(model.images(30), 3, axis=0)
    return Pool("thrice", images, np.zeros(len(images), dtype=np.int64))


def test_an_equal_image_is_answered_from_disk(
    model: LinearModel, twins: Pool, tmp_path: Path
) -> None:
    stub = Stub(model)
    rob(stub, twins, tmp_path, 90)
    assert stub.samples == 30
    with TransferSet.read(tmp_path) as stolen:
        images, answers = stolen.prefix(90)
        np.testing.assert_array_equal(answers, model(images))
        assert (stolen.sent(), stolen.paid(90), stolen.recorded) == (30, 30, 90)


def test_and_after_a_kill_at_any_request(model: LinearModel, twins: Pool, tmp_path: Path) -> None:
    for broken in range(1, 6):
        stub = Stub(model)
        stub.faults.extend([None] * broken)
        stub.faults.append(Fault(status=403))
        out = tmp_path / str(broken)
        with pytest.raises(Exception, match="403"):
            rob(stub, twins, out, 90, batch=4)
        rob(stub, twins, out, 90, batch=4)
        assert stub.samples == 30, "what was answered before the end is not asked again"
        with TransferSet.read(out) as stolen:
            images, answers = stolen.prefix(90)
            np.testing.assert_array_equal(answers, model(images))


def test_another_attack_may_want_several_answers_to_one_image(
    model: LinearModel, twins: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Knockoff, "repeats", True)
    stub = Stub(model)
    rob(stub, twins, tmp_path, 90)
    assert stub.samples == 90

"""Nobody pays twice: equal images, before and after a kill; and a budget that is spent."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from attack_client.allowance import Allowance
from attack_client.attacks.knockoff import Knockoff
from attack_client.contract import Pool
from attack_client.errors import OverBudget
from attack_client.http_victim import HttpVictim
from attack_client.retry import RetryPolicy
from attack_client.theft import steal
from attack_client.transfer_set import TransferSet
from tests.attack_client.stub import Fault, LinearModel, Stub


def rob(stub: Stub, pool: Pool, out: Path, budget: int, *, seed: int = 0, batch: int = 8) -> None:
    async def run() -> None:
        transport = httpx.ASGITransport(stub)
        retry = RetryPolicy(attempts=2, base_s=0.0)
        async with HttpVictim("http://victim", "toy", transport=transport, retry=retry) as victim:
            stolen = await steal(
                victim, pool, Knockoff(seed=seed), budget=budget, out=out, batch=batch, resume=True
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


def budget(used: int | None, limit: int | None, **more: Any) -> Mapping[str, Any]:
    return {"used": used, "limit": limit, **more}


@pytest.mark.parametrize(
    ("usage", "left", "until"),
    [
        ({"today": budget(10, 100, resets_at="tomorrow")}, 90, "tomorrow"),
        ({"today": budget(10, 100), "lifetime": budget(95, 100)}, 5, None),
        ({"today": budget(99, 100, resets_at="noon"), "lifetime": budget(0, None)}, 1, "noon"),
        ({"today": budget(120, 100)}, 0, None),
    ],
)
def test_the_smaller_budget_counts(usage: Mapping[str, Any], left: int, until: str | None) -> None:
    allowance = Allowance.read(usage)
    assert allowance is not None
    assert (allowance.left, allowance.until) == (left, until)


@pytest.mark.parametrize(
    "usage", [{}, {"today": 5}, {"today": budget(None, 10)}, {"lifetime": budget(3, None)}]
)
def test_no_limit_is_no_allowance(usage: Mapping[str, Any]) -> None:
    assert Allowance.read(usage) is None


def test_a_theft_stops_at_what_the_key_may_ask(
    model: LinearModel, pool: Pool, tmp_path: Path
) -> None:
    stub = Stub(model, usage={"today": {"used": 0, "limit": 20, "resets_at": "2030-01-01"}})
    with pytest.raises(OverBudget, match=r"4 samples are left of it \(more from 2030-01-01\)"):
        rob(stub, pool, tmp_path, 40)
    assert stub.samples == 16, "not one request was sent to be refused"
    stub.usage = {"today": {"used": 0, "limit": 100, "resets_at": "2030-01-02"}}
    rob(stub, pool, tmp_path, 40)
    assert stub.samples == 40


def test_a_server_that_refuses_ends_it_with_its_own_words(
    model: LinearModel, pool: Pool, tmp_path: Path
) -> None:
    stub = Stub(model)
    spent = b'{"error": "this API key may ask 100 samples and has 0 left"}'
    stub.faults.extend(
        Fault(status=429, body=spent, headers=(("retry-after", "3600"),)) for _ in "1234"
    )
    with pytest.raises(OverBudget, match=r"has 0 left \(try again in 3600 s with --resume\)"):
        rob(stub, pool, tmp_path, 40)

"""The oracle pays for no answer twice, and keeps to its bounds."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from attack_client.attacks.knockoff import Knockoff
from attack_client.contract import Attack, Oracle, Pool, Reply, VictimFacts
from attack_client.errors import (
    BudgetExhausted,
    PoolError,
    Refused,
    TransferSetError,
    TransferSetExists,
    Unreachable,
)
from attack_client.http_victim import HttpVictim
from attack_client.oracle import BudgetedOracle, Tally
from attack_client.provenance import Provenance
from attack_client.theft import steal
from attack_client.transfer_set import TransferSet
from tests.attack_client.stub import CLASSES, SHAPE, Fault, LinearModel, Stub


class Local:
    """A victim in this process, which may stop answering after some requests."""

    def __init__(self, model: LinearModel, *, answers: int = 10**9, sends: int = 1) -> None:
        self.facts = VictimFacts("http://victim", "toy", SHAPE, CLASSES)
        self.keys: list[str | None] = []
        self.asked: list[bytes] = []
        self.in_flight = self.most = 0
        self._model, self._left, self._sends = model, answers, sends

    async def query(
        self,
        images: NDArray[np.uint8],
        *,
        key: str | None = None,
        sending: Callable[[], None] | None = None,
    ) -> Reply:
        if sending is not None:
            sending()
        self.keys.append(key)
        self._left -= 1
        fails = self._left < 0
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        await asyncio.sleep(0.001)
        self.in_flight -= 1
        if fails:
            raise Unreachable("gone")
        self.asked += [image.tobytes() for image in images]
        return Reply(self._model(images), sends=self._sends)


def test_a_theft_is_the_budget_in_seeded_order(
    tmp_path: Path, model: LinearModel, pool: Pool
) -> None:
    victim = Local(model)
    tallies: list[Tally] = []
    run = steal(
        victim,
        pool,
        Knockoff(seed=3),
        budget=150,
        out=tmp_path,
        batch=16,
        concurrency=3,
        watch=tallies.append,
    )
    with asyncio.run(run) as stolen:
        images, answers = stolen.prefix(150)
        sent = stolen.sent()
    order = np.random.default_rng(3).permutation(400)[:150]
    np.testing.assert_array_equal(images, pool.images[order])
    np.testing.assert_array_equal(answers, model(images))
    assert len(victim.asked) == len(set(victim.asked)) == sent == 150
    assert victim.most == 3
    assert (tallies[-1].had, tallies[-1].queries, tallies[-1].resent) == (150, 150, 0)
    assert [tally.had for tally in tallies] == sorted(tally.had for tally in tallies)


@pytest.mark.parametrize("batch_after", [16, 7])
def test_a_theft_that_failed_goes_on_without_asking_again(
    tmp_path: Path, model: LinearModel, pool: Pool, batch_after: int
) -> None:
    first = Local(model, answers=4)
    with pytest.raises(Unreachable, match="gone"):
        asyncio.run(steal(first, pool, Knockoff(), budget=150, out=tmp_path, batch=16))
    with TransferSet.read(tmp_path) as stolen:
        had = stolen.recorded
    assert had == len(first.asked) == 64, "what was in flight at the failure is kept"
    second = Local(model)
    run = steal(second, pool, Knockoff(), budget=150, out=tmp_path, batch=batch_after, resume=True)
    with asyncio.run(run) as stolen:
        np.testing.assert_array_equal(stolen.prefix(150)[1], model(stolen.prefix(150)[0]))
    assert not set(first.asked) & set(second.asked)
    assert len(second.asked) == 150 - had


def test_a_complete_theft_is_not_attacked_again(
    tmp_path: Path, model: LinearModel, pool: Pool
) -> None:
    asyncio.run(steal(Local(model), pool, Knockoff(), budget=64, out=tmp_path)).close()

    class Trains(Knockoff):
        """Would choose other images on this machine."""

        async def run(self, oracle: Oracle, pool: Pool) -> None:
            raise AssertionError("it ran")

        def __repr__(self) -> str:
            return repr(Knockoff())

    tallies: list[Tally] = []
    again = steal(
        Local(model, answers=0), pool, Trains(), budget=40, out=tmp_path, resume=True,
        watch=tallies.append,
    )  # fmt: skip
    with asyncio.run(again) as stolen:
        assert stolen.recorded == 64
    assert [(tally.had, tally.replayed, tally.queries) for tally in tallies] == [(40, 40, 0)]


def test_a_request_keeps_its_key_across_runs(
    tmp_path: Path, model: LinearModel, pool: Pool
) -> None:
    first, second = Local(model, answers=2), Local(model)
    with pytest.raises(Unreachable):
        asyncio.run(steal(first, pool, Knockoff(), budget=64, out=tmp_path, batch=16))
    asyncio.run(
        steal(second, pool, Knockoff(), budget=64, out=tmp_path, batch=16, resume=True)
    ).close()
    assert set(second.keys) == set(first.keys[2:])
    assert len(set(first.keys)) == 4
    assert all(key is not None and uuid.UUID(key).version == 5 for key in first.keys)


@pytest.mark.parametrize(("budget", "batch"), [(200, 64), (100, 100), (200, 100), (164, 64)])
def test_what_was_in_flight_keeps_its_keys_whatever_is_asked_for_now(
    tmp_path: Path, model: LinearModel, pool: Pool, budget: int, batch: int
) -> None:
    first, second = Local(model, answers=0), Local(model)
    with pytest.raises(Unreachable):
        asyncio.run(steal(first, pool, Knockoff(), budget=100, out=tmp_path, batch=64))
    assert len(first.keys) == 2
    run = steal(second, pool, Knockoff(), budget=budget, out=tmp_path, batch=batch, resume=True)
    with asyncio.run(run) as stolen:
        images, answers = stolen.prefix(budget)
    np.testing.assert_array_equal(answers, model(images))
    assert second.keys[:2] == first.keys
    assert len(second.asked) == len(set(second.asked)) == budget


def test_a_smaller_batch_is_kept_to_even_so(tmp_path: Path, model: LinearModel, pool: Pool) -> None:
    first, second = Local(model, answers=0), Local(model)
    with pytest.raises(Unreachable):
        asyncio.run(steal(first, pool, Knockoff(), budget=100, out=tmp_path, batch=64))
    run = steal(second, pool, Knockoff(), budget=100, out=tmp_path, batch=40, resume=True)
    asyncio.run(run).close()
    assert len(second.keys) == 3, "0 to 39, 40 to 63, and 64 to 99 as before"
    assert second.keys[-1] == first.keys[-1]


def test_a_larger_budget_extends_a_finished_theft(
    tmp_path: Path, model: LinearModel, pool: Pool
) -> None:
    asyncio.run(steal(Local(model), pool, Knockoff(), budget=50, out=tmp_path)).close()
    with pytest.raises(TransferSetExists):
        asyncio.run(steal(Local(model), pool, Knockoff(), budget=60, out=tmp_path))
    victim = Local(model)
    with asyncio.run(
        steal(victim, pool, Knockoff(), budget=60, out=tmp_path, resume=True)
    ) as stolen:
        assert stolen.complete == 60
    assert len(victim.asked) == 10


def test_a_victim_that_moved_is_followed_only_when_told(
    tmp_path: Path, model: LinearModel, pool: Pool
) -> None:
    asyncio.run(steal(Local(model), pool, Knockoff(), budget=50, out=tmp_path)).close()
    elsewhere = Local(model)
    elsewhere.facts = replace(elsewhere.facts, url="http://victim:2")
    with pytest.raises(TransferSetError, match="url was http://victim, not http://victim:2"):
        asyncio.run(steal(elsewhere, pool, Knockoff(), budget=60, out=tmp_path, resume=True))
    run = steal(elsewhere, pool, Knockoff(), budget=60, out=tmp_path, resume=True, moved=True)
    with asyncio.run(run) as stolen:
        assert stolen.complete == 60
    assert len(elsewhere.asked) == 10


def test_a_pool_too_small_for_the_budget_is_refused_before_a_query(
    tmp_path: Path, model: LinearModel, pool: Pool
) -> None:
    victim = Local(model)
    with pytest.raises(PoolError, match="400 images"):
        asyncio.run(steal(victim, pool, Knockoff(), budget=401, out=tmp_path))
    assert not victim.keys
    asyncio.run(steal(victim, pool, Knockoff(), budget=400, out=tmp_path)).close()


def test_a_pool_of_another_shape_is_refused(tmp_path: Path, model: LinearModel) -> None:
    wrong = Pool("rgb", np.zeros((9, 3, 8, 8), dtype=np.uint8), np.zeros(9, dtype=np.int64))
    with pytest.raises(PoolError, match="rgb"):
        asyncio.run(steal(Local(model), wrong, Knockoff(), budget=9, out=tmp_path))
    assert not list(tmp_path.iterdir())


def test_the_same_image_again_on_purpose_is_two_queries(
    tmp_path: Path, model: LinearModel, provenance: Provenance
) -> None:
    victim = Local(model)

    async def run() -> None:
        with TransferSet.create(tmp_path, provenance) as stolen:
            oracle = BudgetedOracle(victim, stolen, budget=2, repeats=True)
            await oracle.ask(0, model.images(1))
            await oracle.ask(1, model.images(1))
            await oracle.ask(0, model.images(1))

    asyncio.run(run())
    assert len(victim.keys) == 2
    assert victim.keys[0] != victim.keys[1]


def test_positions_hold_what_was_asked_there(
    tmp_path: Path, model: LinearModel, provenance: Provenance
) -> None:
    async def run() -> None:
        with TransferSet.create(tmp_path, provenance) as stolen:
            oracle = BudgetedOracle(Local(model), stolen, budget=20)
            await oracle.ask(5, model.images(5))
            await oracle.ask(0, model.images(10, seed=2))

    with pytest.raises(TransferSetError, match="other images between positions 5 and 9"):
        asyncio.run(run())


def test_beyond_the_budget_nothing_is_sent(
    tmp_path: Path, model: LinearModel, provenance: Provenance
) -> None:
    victim = Local(model)

    async def run() -> None:
        with TransferSet.create(tmp_path, provenance) as stolen:
            await BudgetedOracle(victim, stolen, budget=5).ask(3, model.images(3))

    with pytest.raises(BudgetExhausted, match="the budget is 5"):
        asyncio.run(run())
    assert not victim.keys


def test_retries_are_counted_as_sent(tmp_path: Path, model: LinearModel, pool: Pool) -> None:
    tallies: list[Tally] = []
    victim = Local(model, sends=3)
    run = steal(victim, pool, Knockoff(), budget=40, out=tmp_path, watch=tallies.append)
    with asyncio.run(run) as stolen:
        assert stolen.sent() == 120
        assert stolen.recorded == 40
    assert tallies[-1].resent == 80


@pytest.mark.parametrize("answered_at_last", [False, True])
def test_every_attempt_is_journalled_before_it_is_sent(
    tmp_path: Path, model: LinearModel, pool: Pool, answered_at_last: bool
) -> None:
    stub = Stub(model)
    stub.faults.extend([Fault(504)] * (7 if answered_at_last else 8))
    journalled: list[int] = []
    tallies: list[Tally] = []

    async def no_sleep(seconds: float) -> None:
        del seconds
        with TransferSet.read(tmp_path) as stolen:
            journalled.append(stolen.sent())

    async def run() -> None:
        transport = httpx.ASGITransport(stub)
        async with HttpVictim("http://victim", "toy", transport=transport, sleep=no_sleep) as it:
            found = await steal(it, pool, Knockoff(), budget=10, out=tmp_path, watch=tallies.append)
            found.close()

    if answered_at_last:
        asyncio.run(run())
        assert tallies[-1].resent == 70
    else:
        with pytest.raises(Refused, match="504"):
            asyncio.run(run())
    assert len(stub.requests) == 8
    assert journalled == [10, 20, 30, 40, 50, 60, 70]
    with TransferSet.read(tmp_path) as stolen:
        assert stolen.sent() == 80


def test_an_attack_that_asks_from_many_tasks_fails_with_one_reason(
    tmp_path: Path, model: LinearModel, pool: Pool
) -> None:
    class Grouped(Attack):
        kind = "grouped"

        async def run(self, oracle: Oracle, pool: Pool) -> None:
            async with asyncio.TaskGroup() as group:
                for start in range(0, 40, 10):
                    group.create_task(oracle.ask(start, pool.images[start : start + 10]))

    with pytest.raises(Unreachable):
        asyncio.run(steal(Local(model, answers=1), pool, Grouped(), budget=40, out=tmp_path))


@pytest.mark.parametrize("name", ["budget", "batch", "concurrency"])
@pytest.mark.parametrize("value", [0, 2.5])
def test_bounds_are_positive(tmp_path: Path, provenance: Provenance, name: str, value: Any) -> None:
    bounds = {"budget": 1, "batch": 1, "concurrency": 1} | {name: value}
    with (
        TransferSet.create(tmp_path, provenance) as stolen,
        pytest.raises(ValueError, match=name),
    ):
        BudgetedOracle(
            Local(LinearModel()),
            stolen,
            budget=bounds["budget"],
            batch=bounds["batch"],
            concurrency=bounds["concurrency"],
        )

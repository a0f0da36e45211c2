"""The figures of a row, against answers worked out by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from attack_client.answer_quality import accuracy_by_class, calibration_error
from attack_client.attacks.knockoff import Knockoff
from attack_client.clone import CloneRecipe
from attack_client.clone_cache import CloneCache
from attack_client.contract import Pool, Reply, VictimFacts
from attack_client.errors import PoolError, Refused, TransferSetError
from attack_client.honest import Honest, measure_honest
from attack_client.honest_store import keep_honest, kept_honest
from attack_client.http_victim import HttpVictim
from attack_client.reference import Reference
from attack_client.report import Labels, Row
from attack_client.scoring import Evaluation, train_and_score
from attack_client.theft import steal
from attack_client.transfer_set import TransferSet
from attack_client.victim_input import TestSet
from models.card import InputSpec
from models.datasets import Dataset
from models.preprocessing import fit_arrays
from tests.attack_client.stub import CLASSES, SHAPE, Fault, LinearModel, Stub

RECIPE = CloneRecipe(architecture="cnn-small", epochs=2)


def honest(stub: Stub, test: TestSet, *, latency_requests: int = 1) -> Honest:
    async def run() -> Honest:
        transport = httpx.ASGITransport(stub)
        async with HttpVictim("http://victim", "toy", transport=transport) as victim:
            return await measure_honest(victim, test, latency_requests=latency_requests)

    return asyncio.run(run())


@pytest.fixture
def test_set(model: LinearModel) -> TestSet:
    images = model.images(30, seed=5)
    labels = model(images).argmax(axis=1)
    labels[:6] = (labels[:6] + 1) % CLASSES
    return TestSet("task", images, labels, CLASSES)


@pytest.fixture
def stolen(tmp_path: Path, model: LinearModel, pool: Pool) -> TransferSet:
    async def run() -> TransferSet:
        transport = httpx.ASGITransport(Stub(model))
        async with HttpVictim("http://victim", "toy", transport=transport) as victim:
            return await steal(victim, pool, Knockoff(seed=3), budget=80, out=tmp_path / "t")

    return asyncio.run(run())


def test_an_honest_caller_is_measured_through_the_api(
    model: LinearModel, test_set: TestSet
) -> None:
    stub = Stub(model, delay_s=0.002)
    seen: list[tuple[int, int]] = []

    async def run() -> Honest:
        transport = httpx.ASGITransport(stub)
        async with HttpVictim("http://victim", "toy", transport=transport) as victim:
            return await measure_honest(
                victim,
                test_set,
                latency_requests=10,
                batch=8,
                watch=lambda done, total: seen.append((done, total)),
            )

    found = asyncio.run(run())
    np.testing.assert_array_equal(found.served, model(test_set.images))
    assert found.accuracy == pytest.approx(24 / 30)
    assert found.queries == stub.samples == 30 + 5 + 10
    assert seen[-1] == (45, 45)
    assert found.latency_p50_ms is not None
    assert found.latency_p99_ms is not None
    assert 2 <= found.latency_p50_ms <= found.latency_p99_ms
    assert stub.most_in_flight <= 4


def test_latency_is_optional_and_failures_are_reported(
    model: LinearModel, test_set: TestSet
) -> None:
    found = honest(Stub(model), test_set, latency_requests=0)
    assert (found.latency_p50_ms, found.latency_p99_ms, found.queries) == (None, None, 30)
    stub = Stub(model)
    stub.faults.append(Fault(403))
    with pytest.raises(Refused, match="403"):
        honest(stub, test_set)


class Limited:
    """A victim that takes 4 ms, and 30 s more for every so-manieth request of a single image."""

    def __init__(self, model: LinearModel, every: int) -> None:
        self.facts = VictimFacts("http://victim", "toy", SHAPE, CLASSES)
        self._model, self._every = model, every
        self.seconds, self.samples, self._singles = 0.0, 0, 0

    def perf_counter(self) -> float:
        return self.seconds

    async def query(
        self,
        images: NDArray[np.uint8],
        *,
        key: str | None = None,
        sending: Callable[[], None] | None = None,
    ) -> Reply:
        del key, sending
        self.samples += len(images)
        self._singles += len(images) == 1
        waits = len(images) == 1 and self._singles % self._every == 0
        self.seconds += 30.004 if waits else 0.004
        return Reply(self._model(images), sends=2 if waits else 1)


def timed(victim: Limited, test_set: TestSet, monkeypatch: pytest.MonkeyPatch) -> Honest:
    monkeypatch.setattr("attack_client.honest.time", victim)
    return asyncio.run(measure_honest(victim, test_set, latency_requests=8))


def test_waiting_for_a_limit_is_no_latency(
    model: LinearModel, test_set: TestSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = Limited(model, every=6)
    found = timed(victim, test_set, monkeypatch)
    assert found.latency_p50_ms == pytest.approx(4.0)
    assert found.latency_p99_ms == pytest.approx(4.0)
    assert (found.disturbed, found.queries) == (2, victim.samples)
    assert victim.samples == 30 + 5 + 8 + 2


def test_a_latency_that_is_mostly_waiting_is_none(
    model: LinearModel, test_set: TestSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = timed(Limited(model, every=2), test_set, monkeypatch)
    assert (found.latency_p50_ms, found.latency_p99_ms, found.disturbed) == (None, None, 3)
    assert found.accuracy == pytest.approx(24 / 30)


def test_what_disturbed_a_latency_is_kept(
    model: LinearModel, test_set: TestSet, tmp_path: Path
) -> None:
    found = Honest(model(test_set.images), 0.8, None, None, 38, disturbed=3)
    keep_honest(tmp_path / "honest.npz", found)
    known = kept_honest(tmp_path / "honest.npz")
    assert known is not None
    assert (known.disturbed, known.queries, known.latency_p50_ms) == (3, 38, None)


def test_a_row_says_what_every_figure_means(
    stolen: TransferSet, model: LinearModel, test_set: TestSet
) -> None:
    plain = LinearModel(seed=4)(test_set.images)
    served = model(test_set.images)
    evaluation = Evaluation(
        test=test_set,
        honest=Honest(served, 0.8, 1.5, 3.0, 45),
        reference=Reference(plain),
        defense="am",
        price_per_thousand=1.5,
    )
    row = train_and_score(
        stolen, budget=60, labels="soft", recipe=RECIPE, evaluation=evaluation, seed=3
    )
    assert (row.dataset, row.victim, row.pool, row.clone) == ("task", "toy", "noise", "cnn-small")
    assert (row.defense, row.attack, row.labels, row.seed) == ("am", "knockoff", "soft", 3)
    assert (row.budget, row.queries, row.unique_queries, row.sent) == (60, 60, 60, 60)
    victim_accuracy = float((plain.argmax(1) == test_set.labels).mean())
    assert row.victim_accuracy == pytest.approx(victim_accuracy)
    assert row.benign_accuracy == 0.8
    assert row.benign_cost == pytest.approx(victim_accuracy - 0.8)
    assert row.benign_l1 == pytest.approx(float(np.abs(plain - served).sum(1).mean()), rel=1e-5)
    assert (row.latency_p50_ms, row.latency_p99_ms, row.evaluation_queries) == (1.5, 3.0, 45)
    assert row.relative_accuracy == pytest.approx(row.clone_accuracy / victim_accuracy)
    assert row.fidelity is not None
    assert row.fidelity_served is not None
    assert row.cost == pytest.approx(0.09)
    assert row.victim_ece == pytest.approx(calibration_error(plain, test_set.labels))
    assert row.victim_class_accuracy == accuracy_by_class(plain, test_set.labels)
    assert row.class_accuracy is not None
    shares = np.bincount(test_set.labels, minlength=len(row.class_accuracy)) / len(test_set.labels)
    by_class = sum(s * (a or 0.0) for s, a in zip(shares, row.class_accuracy, strict=True))
    assert by_class == pytest.approx(row.clone_accuracy)
    assert row.theft_seconds is not None
    assert row.training_seconds is not None


def test_what_cannot_be_known_from_outside_is_null(stolen: TransferSet, test_set: TestSet) -> None:
    row = train_and_score(
        stolen, budget=20, labels="hard", recipe=RECIPE, evaluation=Evaluation(test=test_set)
    )
    unknown = {name for name, value in row.model_dump().items() if value is None}
    assert unknown == {
        "defense",
        "victim_accuracy",
        "benign_accuracy",
        "benign_l1",
        "latency_p50_ms",
        "latency_p99_ms",
        "relative_accuracy",
        "victim_class_accuracy",
        "victim_ece",
        "served_ece",
        "cost",
        "published_queries",
        "fidelity",
        "fidelity_served",
    }
    assert row.benign_cost is None


def timeless(row: Row) -> Row:
    return row.model_copy(update={"theft_seconds": None, "training_seconds": None})


def test_a_budget_is_a_prefix_of_the_theft(
    stolen: TransferSet, test_set: TestSet, tmp_path: Path, model: LinearModel, pool: Pool
) -> None:
    async def run() -> TransferSet:
        transport = httpx.ASGITransport(Stub(model))
        async with HttpVictim("http://victim", "toy", transport=transport) as victim:
            return await steal(victim, pool, Knockoff(seed=3), budget=40, out=tmp_path / "small")

    evaluation = Evaluation(test=test_set, defense="none")
    rows = [
        train_and_score(
            transfer_set, budget=40, labels="soft", recipe=RECIPE, evaluation=evaluation
        )
        for transfer_set in (stolen, asyncio.run(run()))
    ]
    assert timeless(rows[0]) == timeless(rows[1].model_copy(update={"sent": rows[0].sent}))
    with pytest.raises(TransferSetError, match="no answer at position 80"):
        train_and_score(stolen, budget=81, labels="soft", recipe=RECIPE, evaluation=evaluation)


def test_equal_answers_make_equal_clones_and_are_trained_once(
    stolen: TransferSet, test_set: TestSet
) -> None:
    cache = CloneCache()

    def score(labels: Labels, budget: int, *, seed: int = 0) -> Row:
        return train_and_score(
            stolen,
            budget=budget,
            labels=labels,
            recipe=RECIPE,
            evaluation=Evaluation(test=test_set),
            seed=seed,
            cache=cache,
        )

    first, again = score("soft", 40), score("soft", 40)
    assert timeless(first) == timeless(again)
    assert first.training_seconds is not None
    assert again.training_seconds is None
    assert len(cache) == 1
    score("hard", 40)
    score("soft", 41)
    score("soft", 40, seed=1)
    assert len(cache) == 4


def test_repeated_images_are_counted_once(
    tmp_path: Path, model: LinearModel, test_set: TestSet
) -> None:
    images = np.repeat(model.images(10), 3, axis=0)
    pool = Pool("thrice", images, np.zeros(30, dtype=np.int64))

    async def run() -> TransferSet:
        transport = httpx.ASGITransport(Stub(model))
        async with HttpVictim("http://victim", "toy", transport=transport) as victim:
            return await steal(victim, pool, Knockoff(), budget=30, out=tmp_path / "thrice")

    row = train_and_score(
        asyncio.run(run()),
        budget=30,
        labels="soft",
        recipe=RECIPE,
        evaluation=Evaluation(test=test_set),
    )
    assert (row.queries, row.unique_queries) == (30, 10)


def test_a_test_set_with_other_classes_is_refused(model: LinearModel) -> None:
    images = model.images(4)
    labels = np.array([0, 1, 0, 1])
    dataset = Dataset("binary", images, labels, images, labels, ("no", "yes"))
    with pytest.raises(PoolError, match="has 2 classes, the victim answers with 5"):
        TestSet.of(dataset, shape=SHAPE, classes=CLASSES)
    found = TestSet.of(dataset, shape=(3, 12, 12), classes=2)
    assert found.images.shape == (4, 3, 12, 12)
    with pytest.raises(PoolError, match="no test images"):
        TestSet.of(
            replace(dataset, test_images=images[:0], test_labels=labels[:0]), shape=SHAPE, classes=2
        )


def test_a_card_says_how_images_become_a_victims_input(model: LinearModel) -> None:
    images = model.images(4)[:, :, :, :5]
    labels = np.array([0, 1, 0, 1])
    dataset = Dataset("binary", images, labels, images, labels, ("no", "yes"))
    spec = InputSpec(channels=1, height=8, width=8, fit="pad", background=7)
    found = TestSet.of(dataset, shape=SHAPE, classes=2, spec=spec)
    np.testing.assert_array_equal(found.images, fit_arrays(images, spec))
    assert not np.array_equal(found.images, TestSet.of(dataset, shape=SHAPE, classes=2).images)
    with pytest.raises(ValueError, match="spec is of shape"):
        TestSet.of(dataset, shape=(3, 8, 8), classes=2, spec=spec)

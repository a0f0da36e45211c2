"""What ``benchmarks.composite_pools`` asks about, and what it says of its rows."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import pytest

from attack_client.callable_victim import CallableVictim
from attack_client.contract import Pool
from attack_client.report import Row
from attack_client.scoring import Evaluation
from attack_client.theft import steal
from attack_client.victim_input import TestSet
from benchmarks import composite_pools
from benchmarks.composite_pools import kept, kept_at, measured, planned
from benchmarks.envelope import RESULTS
from benchmarks.pool_setting import SETTINGS
from benchmarks.pool_tables import claim, compared
from benchmarks.pool_ways import WAYS, Views
from tests.attack_client.stub import LinearModel

SHAPE = (1, 16, 16)


@pytest.fixture
def model() -> LinearModel:
    return LinearModel(SHAPE, 3)


@pytest.fixture
def pool(model: LinearModel) -> Pool:
    return Pool("noise", model.images(20), np.zeros(20, dtype=np.int64))


def test_views_ask_about_the_pool_itself_first(
    model: LinearModel, pool: Pool, tmp_path: Path
) -> None:
    victim = CallableVictim(model, shape=SHAPE, classes=3)
    with asyncio.run(steal(victim, pool, Views(seed=3), budget=50, out=tmp_path)) as stolen:
        asked, _ = stolen.prefix(50)
    assert {image.tobytes() for image in asked[:20]} == {image.tobytes() for image in pool.images}
    assert len({image.tobytes() for image in asked}) == 50


def test_every_way_pays_the_same_or_asks_about_each_image_once(
    model: LinearModel, pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(composite_pools, "BUDGET", 60)
    setting = replace(SETTINGS["mnist"], presentations=60)
    victim = CallableVictim(model, shape=SHAPE, classes=3)
    shown = model.images(40, seed=5)
    test = TestSet("noise", shown, model(shown).argmax(axis=1), classes=3)
    evaluation = Evaluation(test=test)
    rows = [
        (way, measured(victim, pool, way, setting, seed=0, evaluation=evaluation, out=tmp_path))
        for way in WAYS
    ]
    assert [row.budget for _, row in rows] == [60 if way.whole else 20 for way in WAYS]
    table = compared(20, rows)
    assert len(table["rows"]) == len(WAYS)  # type: ignore[arg-type]


def test_plans_are_whole_seeds_and_no_row_is_kept_in_the_place_of_another() -> None:
    plan = list(planned(2))
    assert [seed for seed, _, _ in plan] == sorted(seed for seed, _, _ in plan)
    assert len({kept_at(Path(), *each) for each in plan}) == len(plan)


def test_the_claim_names_the_best_number_of_parts() -> None:
    def row(accuracy: float) -> Row:
        return some.model_copy(update={"clone_accuracy": accuracy})

    results = json.loads((RESULTS / "attack-curves.json").read_text(encoding="utf-8"))
    some = Row.model_validate(results["rows"][0])
    blends = {way.parts: way for way in WAYS if way.parts and way.labels == "hard"}
    found = [(500, blends[2], row(0.5)), (500, blends[3], row(0.7)), (500, blends[3], row(0.5))]
    assert "of 500 images 50.0 % of 2, 60.0 % of 3, best with 3 parts" in claim(found)


def test_rows_of_another_victim_are_neither_taken_nor_written(tmp_path: Path) -> None:
    results = json.loads((RESULTS / "composite-pools.json").read_text(encoding="utf-8"))
    row = Row.model_validate(results["rows"][0])
    plan = list(planned(1))
    path = kept_at(tmp_path, *plan[0])
    path.parent.mkdir()
    path.write_text(row.model_dump_json(), encoding="utf-8")
    assert [found for *_, found in kept(SETTINGS["mnist"], "mnist-lenet", plan, tmp_path)] == [row]
    for setting, victim in (("cifar10", "mnist-lenet"), ("mnist", "another")):
        with pytest.raises(click.UsageError, match=r"holds lenet clones of mnist-lenet \(mnist\)"):
            kept(SETTINGS[setting], victim, plan, tmp_path)

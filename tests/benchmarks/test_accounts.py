"""What ``benchmarks.accounts`` serves and hands out, and what it says of what it found."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks.accounts import KEPT, SERVED, found_by_monitor, make_keys, settings_of
from benchmarks.accounts_page import (
    LIFETIME,
    WAYS,
    Measured,
    Way,
    compared,
    rows_of,
    told,
    watched,
)
from server.callers.assembly import open_key_store
from server.callers.keys import presented_id
from server.settings import Settings

METRICS = """\
# TYPE intaglio_monitor_tightened_samples counter
intaglio_monitor_tightened_samples_total{model="mine"} 128.0
intaglio_monitor_tightened_samples_total{model="another"} 3.0
# TYPE intaglio_monitor_tests counter
intaglio_monitor_tests_total{model="mine",verdict="natural"} 5.0
intaglio_monitor_tests_total{model="mine",verdict="suspicious"} 2.0
# TYPE intaglio_monitor_statistic histogram
intaglio_monitor_statistic_bucket{le="+Inf",model="mine"} 7.0
intaglio_monitor_statistic_count{model="mine"} 7.0
intaglio_monitor_statistic_sum{model="mine"} 6.3
# TYPE intaglio_monitor_missed_samples counter
intaglio_monitor_missed_samples_total 64.0
# TYPE intaglio_queries counter
intaglio_queries_total{model="mine"} 9.0
"""


def one(
    way: Way, *, seed: int = 0, tightened: int = 0, suspects: int = 0, clone: float
) -> Measured:
    return Measured(
        seed=seed,
        asked=way,
        answered=4000,
        tightened=tightened,
        suspects=suspects,
        tests=10,
        failed=suspects,
        statistic=0.9,
        missed=0,
        clone=clone,
    )


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(model_dir=tmp_path, **settings_of(tmp_path, WAYS))


def test_every_way_is_served_under_a_name_of_its_own(settings: Settings) -> None:
    assert len(settings.models) == len(WAYS)
    assert {way.served for way in WAYS} == SERVED.keys()
    for way in WAYS:
        (offer,) = settings.models[way.model].offers.values()
        assert (offer.tighten is not None) == (way.served == "watched")
    assert settings.monitor.enabled
    assert settings.monitor.callers >= sum(way.keys for way in WAYS)


def test_one_key_with_a_budget_cannot_finish_a_theft_and_sixteen_can() -> None:
    bounded = [way for way in WAYS if way.lifetime is not None]
    assert {way.keys * LIFETIME >= 4800 for way in bounded if way.keys == 1} == {False}
    assert {way.keys * LIFETIME >= 4800 for way in bounded if way.keys == 16} == {True}
    assert all((way.split is None) == (way.keys == 1) for way in WAYS)


@pytest.mark.parametrize("lifetime", [None, LIFETIME])
def test_keys_have_the_budget_of_their_way(settings: Settings, lifetime: int | None) -> None:
    async def limits() -> list[int | None]:
        keys = await make_keys(settings, watched("jbda", 3, "even", lifetime=lifetime))
        async with open_key_store(settings) as store:
            found = [await store.find(presented_id(key) or "") for key in keys]
        return [record.lifetime for record in found if record is not None]

    assert asyncio.run(limits()) == [lifetime] * 3


def test_the_monitor_s_figures_are_read_for_one_model() -> None:
    assert found_by_monitor(METRICS, "mine") == {
        "tightened_samples_total": 128,
        "tests_total natural": 5,
        "tests_total suspicious": 2,
        "statistic_count": 7,
        "statistic_sum": 6.3,
        "missed_samples_total": 64,
    }


def test_what_is_kept_comes_back() -> None:
    kept = one(watched("jbda", 4, "blocks", lifetime=LIFETIME), clone=0.5)
    assert KEPT.validate_python(asdict(kept)) == kept


def test_the_table_has_means_over_seeds_and_no_clone_of_an_honest_caller() -> None:
    way = watched("jbda", 16, "even")
    found = [
        one(way, tightened=1000, suspects=4, clone=0.8),
        one(way, seed=1, tightened=3000, suspects=7, clone=0.9),
        Measured(0, watched("natural", 1), 4800, 0, 0, 0, 0, None, 0, None),
    ]
    assert compared(found)["rows"] == [
        [
            *("jbda", "watched", "-", "16", "even", "2", "4,000"),
            *("50.0 %", "5.5", "0.900", "85.00 %", "80.00 to 90.00"),
        ],
        ["natural", "watched", "-", "1", "-", "1", "4,800", "0.0 %", "0", "-", "-", "-"],
    ]
    units = [row.unit for row in rows_of(found) if row.workload == "natural-watched-free-1-alone"]
    assert "mean W" not in units
    assert "of test images, the clone's" not in units


def test_sentences_follow_from_the_figures() -> None:
    assert told([]) == []
    found = [
        one(watched("jbda", 1), tightened=3000, suspects=1, clone=0.8),
        one(watched("jbda", 16, "even"), tightened=400, suspects=2, clone=0.9),
        one(watched("jbda", 1, lifetime=LIFETIME), clone=0.7),
    ]
    again = one(watched("jbda", 16, "even", lifetime=LIFETIME), tightened=800, clone=0.9)
    assert "tightened 10.0 and 20.0 % says" in told([*found, again])[-1]
    assert told(found) == [
        "Of the queries of `jbda`, without budgets, the monitor tightened 75.0 % under one key "
        "(1 suspected, clone 80.0 %), 10.0 % under 16 keys (2 suspected, clone 90.0 %).",
        "Of the 4,800 queries that `jbda` asked for, keys of 640 samples each were answered 4,000 "
        "with 1.",
    ]

"""One name, several victims and chains: who is answered by which, and what nobody can tell."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from server.app import create_app
from server.callers.assembly import build_callers, open_key_store
from server.callers.key_store import KeyStore
from server.callers.keys import new_key
from server.engine import Engine
from server.errors import ConfigurationError, QueueFull
from server.metrics import Metrics
from server.repository import load_models
from server.serving import InferenceService
from server.settings import ModelSettings, Settings
from server.weights import Weights
from tests.server.core.conftest import write

pytestmark = pytest.mark.anyio

CPU = torch.device("cpu")
NOISE = np.random.default_rng(3).integers(0, 256, (5, 1, 12, 12), dtype=np.uint8)
BODY = {
    "inputs": [
        {
            "name": "images",
            "datatype": "UINT8",
            "shape": list(NOISE.shape),
            "data": NOISE.ravel().tolist(),
        }
    ]
}
AM = {"kind": "am", "threshold": 0.5}
TIERS = {
    "victim": "defended",
    "tiers": {
        "public": {"defenses": [AM, {"kind": "label-only"}]},
        "partner": {"defenses": [{"kind": "top-k", "k": 3}]},
        "internal": {"victim": "digits/2"},
    },
}

Build = Callable[..., Settings]


def service(settings: Settings, metrics: Metrics) -> InferenceService:
    engine = Engine(CPU, secret=b"a secret of some length", metrics=metrics, threads=1)
    return InferenceService(load_models(settings, CPU), engine, settings=settings, metrics=metrics)


async def put(store: KeyStore, tier: str | None) -> str:
    """A new key of ``tier``, in the store."""
    made = new_key(tier=tier)
    await store.change(made.record.id, lambda _: made.record)
    return made.secret


async def test_three_keys_are_answered_by_three_tiers_and_see_one_model(
    settings: Build, metrics: Metrics, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = settings(models={"m": TIERS}, callers={"store": "file"}, state_dir=tmp_path)
    keys = {}
    async with open_key_store(given) as store:
        for tier in (None, "public", "partner", "internal", "unheard-of"):
            keys[tier] = await put(store, tier)
    plane = service(given, metrics)
    await plane.start()
    callers = build_callers(given)
    await callers.start()
    answers: dict[str | None, np.ndarray[Any, Any]] = {}
    seen = set()
    transport = httpx.ASGITransport(app=create_app(plane, given, metrics, callers))
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        for tier, key in keys.items():
            client.headers["authorization"] = f"Bearer {key}"
            answer = await client.post("/v2/models/m/infer", json=BODY)
            assert answer.status_code == 200, answer.text
            shown = answer.json()
            answers[tier] = np.array(shown["outputs"][0].pop("data")).reshape(5, 10)
            about = [await client.get(path) for path in ("/v2/models/m", "/v1/models", "/v2")]
            seen.add((str(shown), *(each.text for each in about)))
    await callers.close()
    await plane.drain()

    assert len(seen) == 1, "what is told of a model depends on the tier"
    assert not {"public", "partner", "internal", "am", "label-only", "top-k"} & set(
        "".join(next(iter(seen))).replace("'", '"').split('"')
    )
    assert set(np.unique(answers["public"])) == {0.0, 1.0}
    for tier in (None, "unheard-of"):
        np.testing.assert_array_equal(answers[tier], answers["public"])
    assert ((answers["partner"] > 0).sum(axis=1) == 3).all()
    assert (answers["internal"] > 0).all()
    assert caplog.text.count("models.m has no tier 'unheard-of'") == 1


async def test_a_mixed_crowd_is_answered_as_each_alone(settings: Build, metrics: Metrics) -> None:
    plane = service(settings(models={"m": TIERS}), metrics)
    await plane.start()
    views = [plane.view("m", tier=tier) for tier in ("public", "partner", "internal")] * 4
    alone = [await plane.predict(view, NOISE) for view in views[:3]]
    together = await asyncio.gather(*(plane.predict(view, NOISE) for view in views))
    for index, answer in enumerate(together):
        assert np.abs(answer - alone[index % 3]).max() < 1e-4
    await plane.drain()


def test_weights_that_several_models_share_are_loaded_once(settings: Build) -> None:
    models = {
        "m": TIERS,
        "again": {"victim": "defended", "defenses": [AM]},
        "old": {"victim": "digits/2"},
    }
    weights = Weights(CPU)
    served = load_models(settings(models=models), CPU, weights)
    by_tier = {(model.name, model.tier): model for model in served}
    victims = {key: model.victim.module(0) for key, model in by_tier.items()}
    assert victims["m", "public"] is victims["m", "partner"] is victims["again", "public"]
    assert victims["m", "internal"] is victims["old", "public"]
    assert len(weights) == 3, "two victims and a misinformation network"


def test_the_log_says_which_tier_is_answered_by_what(
    settings: Build, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    load_models(settings(models={"m": TIERS}), CPU)
    assert "m version 1 for tier internal: weights digits/2 (objective: plain)" in caplog.text
    assert "m version 1 for tier public: weights defended/1 (objective: am)" in caplog.text


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            {"tiers": {"public": {"victim": "digits"}, "internal": {"victim": "nobody"}}},
            r"models\.m\.tiers\.internal\.victim: there is no bundle 'nobody'",
        ),
        (
            {"victim": "digits", "tiers": {"public": {"defenses": [{"kind": "moat"}]}}},
            r"models\.m\.tiers\.public\.defenses\[0\]\.kind",
        ),
        (
            {"victim": "digits", "versions": "all", "default_version": "7"},
            r"models\.m\.default_version: 7 is not served: there is 2, 10",
        ),
        (
            {"victim": "digits/2", "versions": ["2", "10"]},
            r"models\.m\.victim: digits/2 names a version, and so does models\.m\.versions",
        ),
        ({"victim": "digits", "versions": [2, 3]}, r"models\.m\.victim: there is no .*digits/3"),
    ],
)
def test_what_cannot_be_served_is_named(
    settings: Build, model: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load_models(settings(models={"m": model}), CPU)


def test_tiers_that_could_be_told_apart_are_refused(settings: Build, tmp_path: Path) -> None:
    write(tmp_path, "a", "1", "victim")
    write(tmp_path, "b", "1", "victim", labels=tuple("abcdefghij"))
    tiers = {"public": {"victim": "a"}, "internal": {"victim": "b"}}
    given = settings(model_dir=tmp_path, models={"m": {"tiers": tiers}})
    with pytest.raises(
        ConfigurationError, match=r"internal\.victim: b/1 has other labels than a/1"
    ):
        load_models(given, CPU)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"tiers": {"partner": {}}}, "must have one called public"),
        ({"tiers": {"public": {}}, "defenses": []}, "defenses must be set in each tier"),
        ({"versions": ["1", "all"]}, "versions must be all, latest, or a list"),
        ({"versions": []}, "at least one version"),
        ({"versions": [1.1]}, "as text: '1.10'"),
        ({"default_version": 1.1}, "as text: '1.10'"),
    ],
)
def test_settings_that_contradict_themselves(model: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelSettings.model_validate(model)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_request_samples": 257}, r"max_request_samples must be at most the server's own"),
        ({"queue_samples": 10}, r"queue_samples must be at least the 256 samples"),
        ({"deadline_s": 99.0}, r"deadline_s must be at most the server's own"),
    ],
)
def test_a_model_may_have_less_than_the_server_and_not_more(
    settings: Build, limits: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=rf"models\.m\.limits\.{message}"):
        settings(models={"m": {"limits": limits}})


async def test_several_versions_and_the_one_that_is_meant_without_one(
    settings: Build, metrics: Metrics
) -> None:
    model = {"victim": "digits", "versions": "all", "default_version": 2}
    plane = service(settings(models={"m": model}), metrics)
    assert plane.view("m").version == "2"
    assert plane.view("m", "10").versions == ("2", "10")
    await plane.drain()


async def test_one_models_flood_leaves_room_for_another(settings: Build, metrics: Metrics) -> None:
    limits = {"queue_samples": 5, "max_request_samples": 5}
    given = settings(models={"m": {"victim": "digits/2", "limits": limits}, "digits": {}})
    plane = service(given, metrics)
    await plane.start()
    view = plane.view("m")
    assert view.max_request_samples == 5
    accepted = asyncio.ensure_future(plane.predict(view, NOISE))
    await asyncio.sleep(0)
    with pytest.raises(QueueFull) as refused:
        await plane.predict(view, NOISE[:1])
    assert refused.value.retry_after is not None
    assert (await plane.predict(plane.view("digits"), NOISE)).shape == (5, 10)
    await accepted
    assert (await plane.predict(view, NOISE[:1])).shape == (1, 10)
    await plane.drain()

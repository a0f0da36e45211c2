"""The monitor: whom it suspects, what it says of that, and what it does about it."""

from __future__ import annotations

import base64
import io
import logging
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from server.app import create_app
from server.engine import Engine
from server.errors import ConfigurationError
from server.metrics import Metrics
from server.monitor import BACKLOG, QueryMonitor
from server.monitor_metrics import MonitorMetrics
from server.repository import load_models
from server.serving import InferenceService
from server.settings import MonitorSettings, Settings, load_settings

pytestmark = pytest.mark.anyio

CPU = torch.device("cpu")
ON = {"enabled": True}
LABELS_ONLY = [{"kind": "label-only"}]
Build = Callable[..., Settings]


def made(count: int, *, size: int = 12) -> NDArray[np.uint8]:
    """Pictures at equal distances from one another, as no camera takes them."""
    pictures = np.zeros((count, 1, size, size), dtype=np.uint8)
    pictures.reshape(count, -1)[np.arange(count), np.arange(count) % (size * size)] = 200
    return pictures


def one_class(count: int) -> NDArray[np.float32]:
    return np.eye(10, dtype=np.float32)[np.zeros(count, dtype=np.int64)]


def watch(metrics: Metrics, **given: Any) -> QueryMonitor:
    settings = MonitorSettings(enabled=True, **given)
    return QueryMonitor(settings, MonitorMetrics(metrics.registry))


def look(monitor: QueryMonitor, caller: str, images: NDArray[np.uint8], model: str) -> None:
    looked = monitor.observe(caller, model, "1", images, one_class(len(images)))
    assert isinstance(looked, Future)
    looked.result(timeout=30)


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"intaglio_monitor_{name}", labels)


def test_a_suspect_is_tightened_counted_and_logged(
    metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    monitor = watch(metrics)
    assert not monitor.tightens("key-a", "shop", 5)
    look(monitor, "key-a", made(140), "shop")
    assert monitor.tightens("key-a", "shop", 5)
    assert not monitor.tightens("key-b", "shop", 5), "another caller"
    assert not monitor.tightens("key-a", "digits", 5), "another model"
    assert value(metrics, "suspicious_callers", model="shop") == 1
    assert value(metrics, "tests_total", model="shop", verdict="suspicious") == 1
    assert value(metrics, "tightened_samples_total", model="shop") == 5
    (warned,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "key-a asks shop as a thief does" in warned.getMessage()
    look(monitor, "key-a", made(140)[:, :, ::-1], "shop")
    assert len([one for one in caplog.records if one.levelno == logging.WARNING]) == 1
    exposed = [sample for family in metrics.registry.collect() for sample in family.samples]
    assert not [sample for sample in exposed if "key-a" in sample.labels.values()]


def test_suspicion_passes(metrics: Metrics, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    monitor = watch(metrics, hold_s=1e-6)
    look(monitor, "key-a", made(140), "shop")
    assert not monitor.suspects("key-a", "shop")
    assert value(metrics, "suspicious_callers", model="shop") == 0
    assert "no longer suspected" in caplog.text


@pytest.mark.parametrize("end", ["a scrape", "a query of another caller"])
def test_suspicion_passes_though_nobody_asks_for_it(
    metrics: Metrics, caplog: pytest.LogCaptureFixture, end: str
) -> None:
    """As where no model has a stricter chain: nobody ever asks who is suspected."""
    caplog.set_level(logging.INFO)
    monitor = watch(metrics, hold_s=1e-6)
    look(monitor, "key-a", made(140), "shop")
    assert "key-a asks shop as a thief does" in caplog.text
    assert "no longer" not in caplog.text
    if end == "a scrape":
        assert value(metrics, "suspicious_callers", model="shop") == 0
    else:
        look(monitor, "key-b", made(1), "shop")
    assert "key-a is no longer suspected of stealing shop" in caplog.text


def test_suspicion_of_a_caller_that_left_passes_too(metrics: Metrics) -> None:
    monitor = watch(metrics, hold_s=1e-6)
    look(monitor, "key-a", made(140), "shop")
    assert not monitor.suspects("key-b", "shop")
    assert value(metrics, "suspicious_callers", model="shop") == 0


def test_callers_are_bounded_and_the_least_recent_is_forgotten(metrics: Metrics) -> None:
    monitor = watch(metrics, callers=2)
    for caller in ("a", "b", "a", "c"):
        look(monitor, caller, made(60), "shop")
    assert value(metrics, "followed_callers") == 2
    look(monitor, "a", made(140)[60:], "shop")
    assert monitor.suspects("a", "shop"), "remembered, since it asked later than b"
    for caller in ("b", "c", "d"):
        look(monitor, caller, made(140), "shop")
    assert [monitor.suspects(caller, "shop") for caller in "abcd"] == [False, False, True, True]
    assert value(metrics, "suspicious_callers", model="shop") == 2


def test_what_it_has_no_room_for_is_answered_and_counted(metrics: Metrics) -> None:
    monitor, may_look = watch(metrics), threading.Event()
    monitor._executor.submit(may_look.wait, 30)
    first = monitor.observe("a", "shop", "1", made(10), one_class(10))
    many = np.zeros((BACKLOG, 1, 12, 12), dtype=np.uint8)
    assert monitor.observe("a", "shop", "1", many, one_class(len(many))) is None
    assert value(metrics, "missed_samples_total") == len(many)
    may_look.set()
    assert first is not None
    first.result(timeout=30)
    look(monitor, "a", made(10), "shop")


def test_a_request_is_looked_at_however_large_it_is(metrics: Metrics) -> None:
    monitor = watch(metrics)
    many = np.concatenate([made(140), np.zeros((BACKLOG, 1, 12, 12), dtype=np.uint8)])
    look(monitor, "a", many, "shop")
    assert monitor.suspects("a", "shop")
    assert value(metrics, "missed_samples_total") == 0


def test_a_failure_of_its_own_harms_nobody(
    metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    monitor = watch(metrics)
    looked = monitor.observe("a", "shop", "1", made(10), one_class(9))
    assert looked is not None
    looked.result(timeout=30)
    assert "could not be looked at" in caplog.text
    assert value(metrics, "missed_samples_total") == 10
    look(monitor, "a", made(140), "shop")
    assert monitor.suspects("a", "shop")


def test_a_version_that_now_takes_other_images_is_looked_at(metrics: Metrics) -> None:
    monitor = watch(metrics)
    look(monitor, "a", made(10, size=12), "shop")
    look(monitor, "a", made(140, size=14), "shop")
    assert value(metrics, "missed_samples_total") == 0
    assert monitor.suspects("a", "shop")


@pytest.fixture
async def client(settings: Build, metrics: Metrics) -> AsyncIterator[httpx.AsyncClient]:
    given = settings(
        models={"shop": {"victim": "digits", "tighten": LABELS_ONLY}},
        monitor=ON,
        api_keys=["thief", "friend"],
    )
    engine = Engine(CPU, secret=b"a secret of some length", metrics=metrics, threads=1)
    plane = InferenceService(load_models(given, CPU), engine, settings=given, metrics=metrics)
    await plane.start()
    transport = httpx.ASGITransport(app=create_app(plane, given, metrics))
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        yield client
    await plane.drain()


async def ask(client: httpx.AsyncClient, key: str, images: NDArray[np.uint8]) -> list[float]:
    """The probability of the top-1 of each answer."""
    files = []
    for image in images:
        into = io.BytesIO()
        Image.fromarray(image[0]).save(into, "PNG")
        files.append(base64.b64encode(into.getvalue()).decode())
    response = await client.post(
        "/v1/models/shop/predict",
        json={"images": files, "top_k": 1},
        headers={"authorization": f"Bearer {key}"},
    )
    assert response.status_code == 200, response.text
    return [row["labels"][0]["probability"] for row in response.json()["predictions"]]


async def test_a_thief_is_answered_through_the_stricter_chain_and_a_friend_is_not(
    client: httpx.AsyncClient, metrics: Metrics
) -> None:
    before = await ask(client, "thief", made(3))
    assert max(before) < 1
    for _ in range(50):
        answered = await ask(client, "thief", made(144))
        if min(answered) == 1.0:
            break
    assert min(answered) == 1.0
    assert await ask(client, "friend", made(3)) == before
    assert (value(metrics, "tightened_samples_total", model="shop") or 0) >= 144


def test_what_is_configured_is_listed_at_start(
    settings: Build, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    given = settings(models={"shop": {"victim": "digits", "tighten": LABELS_ONLY}}, monitor=ON)
    models = load_models(given, CPU)
    assert "callers that the monitor suspects get Chain([LabelOnly()])" in caplog.text
    engine = Engine(CPU, secret=b"a secret of some length", metrics=metrics, threads=1)
    plane = InferenceService(models, engine, settings=given, metrics=metrics)
    create_app(plane, given, metrics)
    assert "a chain for suspects: shop" in caplog.text
    assert "all callers are one" in caplog.text


@pytest.mark.parametrize(
    ("models", "monitor", "message"),
    [
        ({"m": {"tighten": LABELS_ONLY}}, {}, r"models\.m\.tighten needs monitor\.enabled"),
        (
            {"m": {"victim": "digits", "tighten": [{"kind": "top-k", "k": 99}]}},
            ON,
            r"models\.m\.tighten\[0\]\.k: ",
        ),
        (
            {"m": {"victim": "digits", "defenses": LABELS_ONLY, "tighten": LABELS_ONLY}},
            ON,
            r"models\.m\.tighten: this is the chain that everybody",
        ),
        ({}, {"threshold": 1.5}, r"monitor\.threshold: "),
        ({}, {"window": 50}, r"monitor\.window: "),
    ],
)
def test_mistakes_are_named(
    models_root: Any, models: dict[str, Any], monitor: dict[str, Any], message: str
) -> None:
    def start() -> None:
        load_models(load_settings(None, model_dir=models_root, models=models, monitor=monitor), CPU)

    with pytest.raises(ConfigurationError, match=message):
        start()

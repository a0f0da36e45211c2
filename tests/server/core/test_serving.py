"""The data plane as routes see it: real bundles, real engine, real thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import numpy as np
import pytest
import torch

from defenses.chain import Chain
from defenses.contract import Answers, Defense, Queries, Stage
from server.dataplane import DataPlane
from server.engine import Engine
from server.errors import (
    BadRequest,
    ConfigurationError,
    Draining,
    InternalFailure,
    NotFound,
    QueueFull,
    ServiceError,
    TooLarge,
)
from server.metrics import Metrics
from server.repository import load_models
from server.served import ServedModel
from server.serving import InferenceService
from server.settings import Settings

pytestmark = pytest.mark.anyio

NOISE = np.random.default_rng(1).integers(0, 256, (64, 1, 12, 12), dtype=np.uint8)
CPU = torch.device("cpu")
MODELS = {
    "shop": {"victim": "defended", "defenses": [{"kind": "am", "threshold": 0.3}]},
    "digits": {},
}

Build = Callable[..., Settings]


def service(settings: Settings, metrics: Metrics, *more: ServedModel) -> InferenceService:
    engine = Engine(CPU, secret=b"a secret of some length", metrics=metrics, threads=1)
    models = [*load_models(settings, CPU), *more]
    return InferenceService(models, engine, settings=settings, metrics=metrics)


@pytest.fixture
async def plane(settings: Build, metrics: Metrics) -> AsyncIterator[InferenceService]:
    plane = service(settings(models=MODELS, limits={"max_request_samples": 48}), metrics)
    await plane.start()
    yield plane
    await plane.drain()


async def test_it_is_a_data_plane(plane: DataPlane) -> None:
    assert plane.ready
    assert [view.name for view in plane.models()] == ["digits", "shop"]


async def test_views_show_inputs_and_outputs(plane: InferenceService) -> None:
    view = plane.view("shop")
    assert (view.name, view.version, view.versions) == ("shop", "1", ("1",))
    assert view.input.shape == (1, 12, 12)
    assert len(view.labels) == 10
    for name, version in (("shop", "2"), ("defended", None), ("", None)):
        with pytest.raises(NotFound):
            plane.view(name, version)


async def test_versions_and_their_default(settings: Build, metrics: Metrics) -> None:
    plane = service(settings(), metrics)
    assert plane.view("digits").version == "10"
    assert plane.view("digits", "2").versions == ("2", "10")
    await plane.start()
    newest = await plane.predict(plane.view("digits"), NOISE[:2])
    np.testing.assert_array_equal(
        newest, await plane.predict(plane.view("digits", "10"), NOISE[:2])
    )
    assert np.abs(newest - await plane.predict(plane.view("digits", "2"), NOISE[:2])).max() > 1e-3
    await plane.drain()


async def test_concurrent_callers_each_get_their_own_answers(plane: InferenceService) -> None:
    alone = [await plane.predict(plane.view("shop"), row[None]) for row in NOISE]
    together = await asyncio.gather(
        *(plane.predict(plane.view("shop"), row[None]) for row in NOISE)
    )
    whole = await plane.predict(plane.view("shop"), NOISE[:48])
    for expected, row in zip(alone, together, strict=True):
        assert row.shape == (1, 10)
        assert np.abs(row - expected).max() < 1e-2
    moved = np.abs(np.concatenate(alone[:48]) - whole).max(axis=1) > 1e-6
    assert moved.sum() <= 4
    distances = np.abs(np.concatenate(alone)[:, None] - np.concatenate(alone)[None]).max(axis=2)
    assert np.median(distances) > 1e-2, "answers that all look alike would prove nothing"


async def test_read_only_images_as_they_come_from_a_body(plane: InferenceService) -> None:
    body = NOISE[:3].tobytes()
    images = np.frombuffer(body, dtype=np.uint8).reshape(3, 1, 12, 12)
    answers = await plane.predict(plane.view("digits"), images)
    assert answers.dtype == np.float32
    assert answers.flags.writeable


async def test_no_images_no_answers(plane: InferenceService) -> None:
    assert (await plane.predict(plane.view("digits"), NOISE[:0])).shape == (0, 10)


@pytest.mark.parametrize(
    ("name", "images", "timeout_s", "error", "message"),
    [
        ("digits", NOISE[0], None, BadRequest, r"\[n, 1, 12, 12\], not uint8 \[1, 12, 12\]"),
        ("digits", NOISE[:, :, 1:], None, BadRequest, r"not uint8 \[64, 1, 11, 12\]"),
        ("digits", NOISE.astype(np.float32), None, BadRequest, "not float32"),
        ("digits", np.uint8(3) * np.ones((), np.uint8), None, BadRequest, r"not uint8 \[\]"),
        ("digits", NOISE[:49], None, TooLarge, "limits.max_request_samples = 48"),
        ("digits", NOISE[:1], -1.0, BadRequest, "timeout must be positive"),
        ("digits", NOISE[:1], float("nan"), BadRequest, "timeout must be positive"),
    ],
)
async def test_refusals_are_told_and_counted(
    plane: InferenceService,
    metrics: Metrics,
    name: str,
    images: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
    timeout_s: float | None,
    error: type[ServiceError],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        await plane.predict(plane.view(name), images, timeout_s=timeout_s)
    count = metrics.registry.get_sample_value(
        "intaglio_refused_requests_total", {"reason": error.reason}
    )
    assert count == 1


@pytest.mark.parametrize(("timeout_s", "reason"), [(1e-6, "impatient"), (6.0, "queue-full")])
async def test_what_an_impatient_caller_is_refused_says_nothing_of_the_server(
    plane: InferenceService,
    metrics: Metrics,
    monkeypatch: pytest.MonkeyPatch,
    timeout_s: float,
    reason: str,
) -> None:
    def full(samples: int, timeout_s: float) -> ServiceError:
        return QueueFull(retry_after=1.0)

    monkeypatch.setattr(plane._batcher, "refusal", full)
    view = plane.view("digits")
    with pytest.raises(QueueFull):
        await plane.predict(view, NOISE[:2], timeout_s=timeout_s)
    count = metrics.registry.get_sample_value
    assert count("intaglio_refused_requests_total", {"reason": reason}) == 1
    assert count("intaglio_refused_samples_total", {"reason": reason}) == 2


async def test_before_the_start_and_after_the_end_it_is_not_ready(
    settings: Build, metrics: Metrics
) -> None:
    plane = service(settings(models=MODELS), metrics)
    seen = [plane.ready]
    with pytest.raises(Draining):
        await plane.predict(plane.view("digits"), NOISE[:1])
    await plane.start()
    seen.append(plane.ready)
    assert metrics.registry.get_sample_value("intaglio_ready") == 1
    accepted = asyncio.ensure_future(plane.predict(plane.view("digits"), NOISE[:40]))
    await asyncio.sleep(0)
    assert await plane.drain()
    assert (await accepted).shape == (40, 10)
    assert [*seen, plane.ready] == [False, True, False]
    with pytest.raises(Draining):
        await plane.predict(plane.view("digits"), NOISE[:1])


async def test_answers_and_departures_are_counted_in_samples(
    plane: InferenceService, metrics: Metrics
) -> None:
    await plane.predict(plane.view("digits"), NOISE[:7])
    leaves = asyncio.ensure_future(plane.predict(plane.view("digits"), NOISE[:5]))
    await asyncio.sleep(0)
    leaves.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaves

    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(name, labels)

    assert value("intaglio_samples_total", model="digits") == 7
    assert value("intaglio_refused_samples_total", reason="cancelled") == 5


class Temper(Defense):
    """Raises when it is shown a certain image; otherwise hands on what it is given."""

    kind = "temper"
    stage = Stage.PERTURB

    def __init__(self, image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
        self._image = torch.from_numpy(image) / 255.0

    def apply(self, queries: Queries, answers: Answers) -> Answers:
        if (queries.images == self._image).flatten(1).all(dim=1).any():
            raise RuntimeError("not this one")
        return answers


async def test_a_defense_that_raises_harms_only_who_provoked_it(
    settings: Build, metrics: Metrics
) -> None:
    victim = load_models(settings(models={"digits": {}}), CPU)[0]
    chain = Chain([Temper(NOISE[5])])
    tempered = ServedModel("tempered", "1", victim.card, victim.victim, chain)
    plane = service(settings(models=MODELS), metrics, tempered)
    await plane.start()
    answers = await asyncio.gather(
        *(plane.predict(plane.view("tempered"), row[None]) for row in NOISE[:16]),
        return_exceptions=True,
    )
    for index, answer in enumerate(answers):
        assert isinstance(answer, InternalFailure if index == 5 else np.ndarray)
    assert metrics.registry.get_sample_value("intaglio_failed_rows_total") == 1
    await plane.drain()


class Stubborn(Defense):
    """Fails whatever it is shown."""

    kind = "stubborn"
    stage = Stage.PERTURB

    def apply(self, queries: Queries, answers: Answers) -> Answers:
        raise RuntimeError("never")


async def test_a_chain_that_cannot_compute_anything_stops_the_start(
    settings: Build, metrics: Metrics
) -> None:
    victim = load_models(settings(models={"digits": {}}), CPU)[0]
    broken = ServedModel("broken", "1", victim.card, victim.victim, Chain([Stubborn()]))
    plane = service(settings(models=MODELS), metrics, broken)
    with pytest.raises(ConfigurationError, match=r"models\.broken: .*stubborn"):
        await plane.start()
    assert not plane.ready
    await plane.drain()

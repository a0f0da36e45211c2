"""Answers that are kept: the same bits, for the same caller, never more than there is room for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.redis_server import RedisServer
from defenses.chain import Chain
from server.answer_cache_metrics import AnswerCacheMetrics
from server.answer_cache_setup import build_answer_cache
from server.answer_memory import OVERHEAD, MemoryAnswers
from server.engine import Engine
from server.errors import ConfigurationError, InternalFailure
from server.evidence import Evidence
from server.metrics import Metrics
from server.repository import load_models
from server.served import ServedModel
from server.serving import InferenceService
from server.settings import Settings
from tests.server.core.test_serving import Temper

pytestmark = pytest.mark.anyio

CPU = torch.device("cpu")
NOISE = np.random.default_rng(7).integers(0, 256, (12, 1, 12, 12), dtype=np.uint8)
SECRET = b"a secret of some length"
CAM = {"interpreter": "grad-cam", "unprotected": True, "cost": 2}
MODELS: dict[str, Any] = {
    "shop": {
        "victim": "defended",
        "tiers": {
            "public": {"defenses": [{"kind": "am", "threshold": 0.3}]},
            "internal": {"explanations": CAM},
        },
    },
    "grows": {
        "victim": "digits",
        "defenses": [{"kind": "modelguard-s", "codebook": "memory", "epsilon": 0.5}],
    },
}

Build = Callable[..., Settings]


class Counted:
    """A service, and how many images it really computed."""

    def __init__(self, settings: Settings, metrics: Metrics, *more: ServedModel) -> None:
        self.metrics = metrics
        self.evidence = Evidence(SECRET)
        engine = Engine(CPU, secret=SECRET, metrics=metrics, threads=1, evidence=self.evidence)
        self.cache = build_answer_cache(
            settings, secret=SECRET, registry=metrics.registry, evidence=self.evidence
        )
        models = [*load_models(settings, CPU), *more]
        self.plane = InferenceService(
            models, engine, settings=settings, metrics=metrics, cache=self.cache
        )

    async def ask(
        self, images: np.ndarray[Any, Any], name: str = "shop", *, caller: str = "a", **who: Any
    ) -> np.ndarray[Any, Any]:
        return await self.plane.predict(self.plane.view(name, **who), images, caller=caller)

    @property
    def computed(self) -> float:
        return self.metrics.registry.get_sample_value("intaglio_batch_samples_sum") or 0.0

    def looked_up(self, outcome: str) -> float | None:
        return self.metrics.registry.get_sample_value(
            "intaglio_answer_cache_samples_total", {"outcome": outcome}
        )

    async def close(self) -> None:
        await self.plane.drain()
        if self.cache is not None:
            await self.cache.close()


@pytest.fixture(params=["memory", "redis"])
async def counted(
    request: pytest.FixtureRequest, settings: Build, metrics: Metrics
) -> AsyncIterator[Counted]:
    given: dict[str, Any] = {"cache": {"backend": request.param}, "api_keys": ["a", "b"]}
    if request.param == "redis":
        redis_server: RedisServer = request.getfixturevalue("redis_server")
        given["redis"] = {"url": redis_server.url, "timeout_ms": 5000}
    service = Counted(settings(models=MODELS, **given), metrics)
    await service.plane.start()
    yield service
    await service.close()


async def test_a_hit_is_bitwise_the_miss_and_costs_no_computation(counted: Counted) -> None:
    first = await counted.ask(NOISE[:5])
    assert counted.computed == 5
    np.testing.assert_array_equal(await counted.ask(NOISE[:5]), first)
    for row in range(5):
        np.testing.assert_array_equal(await counted.ask(NOISE[row][None]), first[row][None])
    assert counted.computed == 5
    assert (counted.looked_up("hit"), counted.looked_up("miss")) == (10, 5)


async def test_the_audit_learns_of_a_hit_how_sure_the_victim_was(counted: Counted) -> None:
    who = {"tier": "internal"}
    names, weights = counted.evidence.names(NOISE[:5]), "defended/1"
    await counted.ask(NOISE[:5], **who)
    sure = counted.evidence.of(weights, names)
    assert all(0 < (one or 0) <= 1 for one in sure)
    assert len(set(sure)) > 1
    # Long after, or in another process.
    counted.evidence._seen.clear()
    assert counted.evidence.of(weights, names) == [None] * 5
    await counted.ask(NOISE[[4, 7, 0, 2]], **who)
    found = counted.evidence.of(weights, names)
    assert [found[row] for row in (0, 2, 4)] == [sure[row] for row in (0, 2, 4)]
    assert (found[1], found[3]) == (None, None)
    assert counted.evidence.of(weights, counted.evidence.names(NOISE[7:8])) != [None]
    await counted.ask(NOISE[:5], "grows")
    others = counted.evidence.of("digits/10", names)
    assert None not in others
    assert others != sure, "another victim"
    again = counted.evidence.of(weights, names)
    assert [again[row] for row in (0, 2, 4)] == [sure[row] for row in (0, 2, 4)]


async def test_of_a_request_only_what_is_new_is_computed(counted: Counted) -> None:
    first = await counted.ask(NOISE[:4])
    mixed = await counted.ask(NOISE[[8, 0, 9, 3, 0]])
    assert counted.computed == 6
    np.testing.assert_array_equal(mixed[[1, 3, 4]], first[[0, 3, 0]])
    np.testing.assert_array_equal(await counted.ask(NOISE[[8, 9]]), mixed[[0, 2]])
    assert counted.computed == 6
    for answer in (first, mixed):
        answer[:] = 0  # whoever was answered may write into it
    assert (await counted.ask(NOISE[:4])).sum() == pytest.approx(4)


async def test_nobody_is_answered_from_what_another_was_told(counted: Counted) -> None:
    await counted.ask(NOISE[:2])
    await counted.ask(NOISE[:2], caller="b")
    await counted.ask(NOISE[:2], tier="internal")
    assert counted.computed == 6
    assert counted.looked_up("hit") == 0


async def test_maps_are_kept_apart_and_with_their_probabilities(counted: Counted) -> None:
    view = counted.plane.view("shop", tier="internal")
    said = await counted.plane.predict(view, NOISE[:3], caller="a")
    first = await counted.plane.explain(view, NOISE[:3], caller="a")
    again = await counted.plane.explain(view, NOISE[:3], caller="a")
    assert counted.computed == 6
    np.testing.assert_array_equal(again.probabilities, first.probabilities)
    np.testing.assert_array_equal(again.attributions, first.attributions)
    assert np.abs(said - first.probabilities).max() < 1e-4


async def test_chains_that_remember_are_not_kept(counted: Counted) -> None:
    await counted.ask(NOISE[:2], "grows")
    await counted.ask(NOISE[:2], "grows")
    assert counted.computed == 4
    assert counted.looked_up("miss") == 0


async def test_the_models_statistics_count_images_that_were_known(counted: Counted) -> None:
    await counted.ask(NOISE[:3])
    await counted.ask(NOISE[:4])
    (record,) = counted.plane.statistics.told("shop")
    stats = record["inference_stats"]
    assert (record["inference_count"], record["execution_count"]) == (7, 2)
    assert (stats["success"]["count"], stats["fail"]["count"]) == (2, 0)
    assert (stats["cache_hit"]["count"], stats["cache_miss"]["count"]) == (3, 4)
    assert stats["cache_hit"]["ns"] > 0


async def test_callers_share_if_the_operator_says_so(
    settings: Build, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    cache = {"backend": "memory", "shared": True}
    service = Counted(settings(models=MODELS, cache=cache), metrics)
    await service.plane.start()
    first = await service.ask(NOISE[:2])
    np.testing.assert_array_equal(await service.ask(NOISE[:2], caller="b"), first)
    await service.ask(NOISE[:2], tier="internal")
    assert service.computed == 4, "another tier has other answers"
    assert "tells whether any caller asked about that image before" in caplog.text
    await service.close()


async def test_without_keys_it_must_be_said_that_strangers_share(settings: Build) -> None:
    def start(**cache: Any) -> object:
        given = settings(models=MODELS, cache=cache)
        return build_answer_cache(given, secret=SECRET, registry=Metrics().registry)

    with pytest.raises(ConfigurationError, match=r"^cache\.shared: without API keys all callers"):
        start(backend="memory")
    assert start(backend="memory", shared=True) is not None
    assert start(backend="off") is None


async def test_a_request_that_failed_leaves_nothing(settings: Build, metrics: Metrics) -> None:
    given = settings(models=MODELS, cache={"backend": "memory"}, api_keys=["a"])
    base = load_models(given, CPU)[0]
    broken = Chain([Temper(NOISE[1])])
    model = ServedModel("broken", "1", base.card, base.victim, broken, digest="one")
    service = Counted(given, metrics, model)
    await service.plane.start()
    for _ in range(2):
        with pytest.raises(InternalFailure):
            await service.ask(NOISE[:2], "broken")
    assert service.looked_up("hit") == 0
    await service.close()


async def test_memory_is_bounded_and_the_least_recently_used_leaves() -> None:
    metrics = Metrics()
    one = 40 + OVERHEAD
    kept = MemoryAnswers(max_bytes=3 * one, ttl_s=100, metrics=AnswerCacheMetrics(metrics.registry))
    for name in (b"a", b"b", b"c"):
        await kept.put({name: bytes(40)})
    await kept.get([b"a"])
    await kept.put({b"d": bytes(40), b"huge": bytes(4 * one)})
    assert [answer is not None for answer in await kept.get([b"a", b"b", b"c", b"d"])] == [
        *(True, False, True, True)
    ]
    size = metrics.registry.get_sample_value("intaglio_answer_cache_bytes")
    assert size == 3 * one


async def test_answers_leave_in_time() -> None:
    kept = MemoryAnswers(
        max_bytes=10_000, ttl_s=0.05, metrics=AnswerCacheMetrics(Metrics().registry)
    )
    await kept.put({b"a": b"answer"})
    await asyncio.sleep(0.1)
    assert await kept.get([b"a"]) == [None]


async def test_while_redis_is_away_everything_is_computed_and_nobody_waits(
    settings: Build, metrics: Metrics, redis_server: RedisServer
) -> None:
    given = settings(
        models=MODELS,
        cache={"backend": "redis"},
        api_keys=["a"],
        redis={"url": redis_server.url, "timeout_ms": 200},
    )
    service = Counted(given, metrics)
    await service.plane.start()
    first = await service.ask(NOISE[:2])
    with redis_server.paused():
        for _ in range(5):
            assert np.abs(await service.ask(NOISE[:2]) - first).max() < 1e-4
    failures = metrics.registry.get_sample_value("intaglio_answer_cache_failures_total")
    assert failures is not None
    assert failures >= 5
    computed = service.computed
    for _ in range(100):
        await service.ask(NOISE[:2])
        if service.looked_up("hit"):
            break
        await asyncio.sleep(0.05)
    assert service.looked_up("hit")
    assert service.computed - computed < 200, "it came back by itself"
    await service.close()


async def test_what_redis_holds_instead_of_an_answer_is_none(
    settings: Build, metrics: Metrics, redis_server: RedisServer
) -> None:
    given = settings(
        models=MODELS,
        cache={"backend": "redis"},
        api_keys=["a"],
        redis={"url": redis_server.url, "timeout_ms": 5000},
    )
    service = Counted(given, metrics)
    await service.plane.start()
    first = await service.ask(NOISE[:1])
    client = redis_server.client()
    (key,) = client.keys("intaglio:answer:*")
    assert client.pttl(key) > 0
    for wrong in (b"", b"short", np.full(10, np.nan, np.float32).tobytes()):
        client.set(key, wrong)
        np.testing.assert_array_equal(await service.ask(NOISE[:1]), first)
    assert service.looked_up("hit") == 0
    await service.close()

"""The engine on real (tiny) bundles: same answers whatever the batch, seeds, failures, metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from defenses.chain import Chain
from defenses.codebook_memory import MemoryCodebook
from defenses.contract import Answers, Defense, Queries, Stage
from defenses.modelguard_s import ModelGuardS
from models.simplex import GRID
from models.victim import SingleVictim
from server.engine import Engine, choose_device
from server.errors import ConfigurationError
from server.metrics import Metrics
from server.repository import load_models
from server.served import ServedModel
from server.settings import Settings

SECRET = b"a secret of some length"
NOISE = np.random.default_rng(0).integers(0, 256, (320, 1, 12, 12), dtype=np.uint8)
AM: dict[str, object] = {"kind": "am", "threshold": 0.3}


class Spy(Defense):
    """Hands on what it is given, and keeps the queries it saw."""

    kind = "spy"
    stage = Stage.PERTURB

    def __init__(self) -> None:
        self.seen: list[Queries] = []

    def apply(self, queries: Queries, answers: Answers) -> Answers:
        self.seen.append(queries)
        return answers


class Spoiler(Spy):
    """Breaks the rows of one image."""

    def __init__(self, image: NDArray[np.uint8]) -> None:
        super().__init__()
        self._image = image

    def apply(self, queries: Queries, answers: Answers) -> Answers:
        image = torch.from_numpy(self._image).to(queries.images.device) / 255.0
        hit = (queries.images == image).flatten(1).all(dim=1)
        return Answers(torch.where(hit[:, None], torch.nan, answers.probabilities))


@pytest.fixture
def engine(device: torch.device, metrics: Metrics) -> Iterator[Engine]:
    before = torch.get_num_threads()
    engine = Engine(device, secret=SECRET, metrics=metrics, threads=1)
    engine.prepare()
    assert torch.get_num_threads() == 1
    yield engine
    torch.set_num_threads(before)


@pytest.fixture
def load(settings: Callable[..., Settings], device: torch.device) -> Callable[..., ServedModel]:
    def load_one(victim: str, *defenses: dict[str, object]) -> ServedModel:
        given = settings(models={"m": {"victim": victim, "defenses": defenses}})
        return load_models(given, device)[0]

    return load_one


def test_answers_are_the_victims_on_the_canonical_grid(
    engine: Engine, load: Callable[..., ServedModel], device: torch.device
) -> None:
    served = load("digits/2")
    computed = engine.run(served, [NOISE[:32]])
    with torch.no_grad():
        images = torch.from_numpy(NOISE[:32]).to(device) / 255
        plain = served.victim.logits(images).softmax(dim=1).cpu().numpy()
    np.testing.assert_allclose(computed.probabilities, plain, atol=1.1 / GRID)
    assert computed.probabilities.dtype == np.float32
    units = computed.probabilities.astype(np.float64) * GRID
    np.testing.assert_allclose(units, units.round(), atol=0.01)
    np.testing.assert_allclose(computed.probabilities.sum(axis=1), 1, atol=1e-6)
    assert computed.failed.dtype == np.bool_
    assert not computed.failed.any()


@pytest.mark.parametrize("defenses", [(), (AM,), (AM, {"kind": "top-k", "k": 3})], ids=len)
def test_same_query_same_answer_whatever_the_batch(
    engine: Engine, load: Callable[..., ServedModel], defenses: tuple[dict[str, object], ...]
) -> None:
    served = load("defended", *defenses)
    alone = np.concatenate([engine.run(served, [row[None]]).probabilities for row in NOISE])
    together = [
        engine.run(served, [NOISE]).probabilities,
        engine.run(served, np.split(NOISE, 20)).probabilities,
        np.concatenate([engine.run(served, [part]).probabilities for part in np.split(NOISE, 10)]),
        engine.run(served, [NOISE[::-1]]).probabilities[::-1],
    ]
    for answers in together:
        distance = np.abs(answers - alone).max(axis=1)
        # Float noise of some 1e-8 straddles a step of the grid now and then: of 10 entries that all
        # matter (an untrained network is the worst case), in about 2 rows of 100; by one step.
        assert (distance > 1e-6).mean() <= 0.05
        if not defenses:
            assert distance.max() < 1.1 / GRID


def test_the_same_batch_twice_is_bitwise_equal(
    engine: Engine, load: Callable[..., ServedModel]
) -> None:
    served = load("defended", AM)
    first, second = (engine.run(served, [NOISE]).probabilities for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_a_chain_sees_pixels_in_unit_range_seeds_and_canonical_answers(
    engine: Engine, load: Callable[..., ServedModel], device: torch.device
) -> None:
    spy = Spy()
    served = replace(load("digits/2"), chain=Chain([spy]))
    engine.run(served, [NOISE[:3], NOISE[3:4]])
    engine.run(served, [NOISE[3:4]])
    queries, again = spy.seen
    assert queries.images.device == queries.seeds.device == queries.victim.device == device
    assert queries.images.dtype == torch.float32
    torch.testing.assert_close(queries.images.cpu(), torch.from_numpy(NOISE[:4]) / 255)
    assert queries.seeds.dtype == torch.int64
    assert len(set(queries.seeds.tolist())) == 4
    assert again.seeds[0] == queries.seeds[3]
    assert not queries.explain.any()
    assert not queries.images.is_inference()
    assert not queries.victim.is_inference()


def test_two_chains_over_one_victim_draw_alike(
    engine: Engine, load: Callable[..., ServedModel]
) -> None:
    spies = [Spy(), Spy()]
    served = [replace(load("digits/2"), name=str(spy), chain=Chain([spy])) for spy in spies]
    for model in served:
        engine.run(model, [NOISE[:1]])
    assert spies[0].seen[0].seeds.tolist() == spies[1].seen[0].seeds.tolist()


def test_a_broken_row_is_marked_and_says_nothing(
    engine: Engine, load: Callable[..., ServedModel]
) -> None:
    served = replace(load("digits/2"), chain=Chain([Spoiler(NOISE[2])]))
    computed = engine.run(served, [NOISE[:5]])
    assert computed.failed.tolist() == [False, False, True, False, False]
    np.testing.assert_array_equal(computed.probabilities[2], np.full(10, 0.1, dtype=np.float32))
    plain = engine.run(load("digits/2"), [NOISE[:5]]).probabilities
    np.testing.assert_allclose(np.delete(computed.probabilities, 2, 0), np.delete(plain, 2, 0))


class Wrong(nn.Module):
    """A network whose logits are not what its card promises."""

    def __init__(self, outputs: int, value: float) -> None:
        super().__init__()
        self._shape = outputs
        self._value = value

    def forward(self, images: Tensor) -> Tensor:
        return torch.full((len(images), self._shape), self._value, device=images.device)


def test_logits_of_a_wrong_shape_are_an_error(
    engine: Engine, load: Callable[..., ServedModel]
) -> None:
    served = replace(load("digits/2"), victim=SingleVictim(Wrong(7, 0.0)))
    with pytest.raises(ValueError, match=r"digits/2 yields \(3, 7\)"):
        engine.run(served, [NOISE[:3]])


def test_logits_that_are_not_finite_fail_and_refuse_the_start(
    engine: Engine, load: Callable[..., ServedModel]
) -> None:
    served = replace(load("digits/2"), victim=SingleVictim(Wrong(10, float("nan"))))
    assert engine.run(served, [NOISE[:3]]).failed.all()
    with pytest.raises(ConfigurationError, match=r"models\.m: .* the victim: holds NaN"):
        engine.warm_up(served, 4)


def test_a_link_that_breaks_the_chain_is_named_before_the_start(
    engine: Engine, load: Callable[..., ServedModel]
) -> None:
    class Stretcher(Spy):
        kind = "stretcher"

        def apply(self, queries: Queries, answers: Answers) -> Answers:
            return Answers(answers.probabilities * 1.1)

    served = replace(load("digits/2"), chain=Chain([Stretcher()]))
    assert engine.run(served, [NOISE[:3]]).failed.all()
    with pytest.raises(ConfigurationError, match=r"chain stretcher: stretcher: rows sum to 1\.1"):
        engine.warm_up(served, 4)


def test_warm_up_touches_no_metric_of_queries(
    engine: Engine, load: Callable[..., ServedModel], metrics: Metrics
) -> None:
    engine.warm_up(load("digits/2"), 4)
    labels = {"model": "m"}
    assert metrics.registry.get_sample_value("intaglio_forward_seconds_count", labels) is None


@pytest.mark.parametrize("tail", [(), ({"kind": "label-only"},)], ids=["alone", "first of two"])
def test_warm_up_teaches_a_codebook_nothing(
    engine: Engine, load: Callable[..., ServedModel], tail: tuple[dict[str, object], ...]
) -> None:
    served = load("digits/2", {"kind": "modelguard-s", "codebook": "memory", "epsilon": 0.5}, *tail)
    (guard, *_) = served.chain.links
    assert isinstance(guard, ModelGuardS)
    assert isinstance(guard._codebook, MemoryCodebook)
    engine.warm_up(served, 64)
    assert len(guard._codebook) == 0
    engine.run(served, [NOISE[:64]])
    assert len(guard._codebook) > 0


def test_metrics_of_a_batch(
    engine: Engine, load: Callable[..., ServedModel], metrics: Metrics
) -> None:
    plain = engine.run(load("defended"), [NOISE]).probabilities
    assert metrics.registry.get_sample_value(
        "intaglio_served_distortion_l1_bucket", {"model": "m", "le": "0.0"}
    ) == len(NOISE)
    served = load("defended", AM, {"kind": "label-only"})
    answers = engine.run(served, [NOISE]).probabilities

    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(f"intaglio_{name}", labels)

    distance = np.abs(answers - plain).sum(axis=1)
    assert value("served_distortion_l1_count", model="m") == 2 * len(NOISE)
    assert value("served_distortion_l1_sum", model="m") == pytest.approx(distance.sum(), rel=1e-4)
    assert value("top1_changed_total", model="m") == np.sum(
        answers.argmax(axis=1) != plain.argmax(axis=1)
    )
    assert value("forward_seconds_count", model="m") == 2
    for kind in ("am", "label-only"):
        assert value("defense_seconds_count", defense=kind) == 1
        assert value("defense_distortion_l1_count", defense=kind) == len(NOISE)
    moved = engine.run(load("defended", AM), [NOISE]).probabilities
    assert value("defense_distortion_l1_sum", defense="label-only") == pytest.approx(
        np.abs(answers - moved).sum(), rel=1e-4
    )


@pytest.mark.parametrize("name", ["auto", "cpu"])
def test_devices_by_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device(name) == torch.device("cpu")


def test_a_device_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto") == torch.device("cuda:0")
    assert choose_device("cuda:1") == torch.device("cuda:1")
    for beyond in ("cuda:2", "cuda:200", "cuda:256", "cuda:999"):
        with pytest.raises(ConfigurationError, match=f"device: there is no {beyond}"):
            choose_device(beyond)

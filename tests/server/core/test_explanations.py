"""Maps on their way through the server: who is explained, and what asking may not change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.explain import MAP_GRID, build_interpreter, canonical_maps
from models.simplex import top1
from server.batches import Computed
from server.batching import Batcher
from server.engine import Engine
from server.errors import ConfigurationError, NotFound, QueueFull, TooLarge
from server.metrics import Metrics
from server.repository import load_models
from server.served import ServedModel
from server.serving import InferenceService
from server.settings import BatchingSettings, Settings, load_settings
from tests.models.explain.networks import state_of
from tests.server.core.conftest import write
from tests.server.core.gate import images as greys

NOISE = np.random.default_rng(5).integers(0, 256, (64, 1, 12, 12), dtype=np.uint8)
CPU = torch.device("cpu")
CAM = {"interpreter": "grad-cam"}
OPEN = {**CAM, "unprotected": True}
AM = {"kind": "am", "threshold": 0.3}
# The last convolution and the dense layer of the small network that is served here.
LAYERS = ["network.features.4.weight", "network.classifier.weight"]
DD: dict[str, Any] = {"kind": "deepdefense", "layers": LAYERS, "steps": 4, "map_agreement": 0.5}

Build = Callable[..., Settings]
Load = Callable[..., ServedModel]


@pytest.fixture
def load(settings: Build, device: torch.device, tmp_path: Path) -> Load:
    roles = ("victim", "member-1", "member-2", "hash")
    write(tmp_path, "plain", "1", "victim", seed=1)
    write(tmp_path, "defended", "1", "victim", "misinformation", objective="am", seed=3)
    write(tmp_path, "three", "1", *roles, objective="edm", seed=5)

    def load_one(
        victim: str, *defenses: dict[str, object], explanations: dict[str, Any] | None = None
    ) -> ServedModel:
        model = {"victim": victim, "defenses": defenses, "explanations": explanations}
        return load_models(settings(model_dir=tmp_path, models={"m": model}), device)[0]

    return load_one


@pytest.fixture
def engine(device: torch.device, metrics: Metrics) -> Engine:
    return Engine(device, secret=b"a secret of some length", metrics=metrics)


def explained(computed: Computed) -> NDArray[np.float32]:
    assert computed.attributions is not None
    return computed.attributions


def marked(*rows: int) -> NDArray[np.bool_]:
    return np.isin(np.arange(len(NOISE)), rows)


def maps_of(network: torch.nn.Module, classes: torch.Tensor, name: str = "grad-cam") -> Any:
    pictures = torch.from_numpy(NOISE).to(classes.device) / 255.0
    return canonical_maps(build_interpreter(name, network)(pictures, classes)).cpu().numpy()


@pytest.mark.parametrize("interpreter", ["grad-cam", "gradient-x-input", "relevance-cam"])
def test_the_map_is_of_the_label_that_leaves_on_the_grid(
    engine: Engine, load: Load, interpreter: str
) -> None:
    served = load("plain", explanations={"interpreter": interpreter, "unprotected": True})
    computed = engine.run(served, [NOISE], np.ones(64, dtype=np.bool_))
    maps = explained(computed)
    assert maps.shape[1:] == served.maps
    steps = maps.astype(np.float64) * MAP_GRID
    np.testing.assert_allclose(steps, steps.round(), atol=1e-3)
    labels = torch.from_numpy(computed.probabilities.argmax(axis=1))
    network = served.victim.module(0)
    device = next(network.parameters()).device
    expected = maps_of(network, labels.to(device), interpreter)
    assert (np.abs(maps - expected).max(axis=(1, 2)) > 1e-6).mean() <= 0.05
    others = maps_of(network, ((labels + 1) % 10).to(device), interpreter)
    assert (np.abs(maps - others).max(axis=(1, 2)) > 0.1).mean() > 0.9


@pytest.mark.parametrize("link", [AM, DD, {**DD, "kind": "dd-i"}], ids=lambda link: link["kind"])
def test_asking_changes_no_bit_of_a_probability_and_marks_only_who_asked(
    engine: Engine, load: Load, link: dict[str, Any]
) -> None:
    served = load("defended", link, explanations=CAM)
    silent = engine.run(served, [NOISE])
    assert silent.attributions is None
    for asked in (marked(3), marked(*range(0, 64, 2)), marked(*range(64))):
        computed = engine.run(served, [NOISE], asked)
        np.testing.assert_array_equal(computed.probabilities, silent.probabilities)
        assert not explained(computed)[~asked].any()
        # DeepDefense withholds some.
        share = 0.9 if link is AM else 0.2
        assert (explained(computed)[asked].max(axis=(1, 2)) == 1.0).mean() > share
    assert engine.run(served, [NOISE], marked()).attributions is None


@pytest.mark.parametrize(
    ("victim", "chain"),
    [
        ("plain", ()),
        ("plain", (DD,)),
        ("defended", (AM,)),
        ("three", ()),
        ("three", ({"kind": "label-only"},)),
    ],
)
def test_a_map_is_a_function_of_its_image(
    engine: Engine, load: Load, victim: str, chain: tuple[dict[str, object], ...]
) -> None:
    served = load(victim, *chain, explanations=OPEN)
    everything = np.ones(64, dtype=np.bool_)
    one = np.ones(1, dtype=np.bool_)
    alone = np.concatenate([explained(engine.run(served, [row[None]], one)) for row in NOISE])
    together = explained(engine.run(served, [NOISE], everything))
    backwards = explained(engine.run(served, [NOISE[::-1]], everything))[::-1]
    some = explained(engine.run(served, [NOISE], marked(*range(0, 64, 3))))[::3]
    for maps, expected in ((together, alone), (backwards, alone), (some, alone[::3])):
        moved = np.abs(maps - expected).max(axis=(1, 2))
        assert (moved > 1e-6).mean() <= 0.1  # a place at the edge of a step of the grid,
        assert moved.max() < 1.5 / MAP_GRID  # by one step


def test_am_explains_the_network_that_answered(engine: Engine, load: Load) -> None:
    served = load("defended", AM, explanations=CAM)
    computed = engine.run(served, [NOISE], np.ones(64, dtype=np.bool_))
    (link,) = served.chain.links
    wrong: torch.nn.Module = link._misinformation  # type: ignore[attr-defined]
    device = next(wrong.parameters()).device
    pictures = torch.from_numpy(NOISE).to(device) / 255.0
    said = served.victim.logits(pictures).softmax(dim=1)
    foreign = (said.amax(dim=1) < 0.3).cpu().numpy()
    assert 5 < foreign.sum() < 59, "both networks must answer somebody"
    labels = torch.from_numpy(computed.probabilities.argmax(axis=1)).to(device)
    victims, misleading = maps_of(served.victim.module(0), labels), maps_of(wrong, labels)
    expected = np.where(foreign[:, None, None], misleading, victims)
    assert (np.abs(explained(computed) - expected).max(axis=(1, 2)) > 1e-6).mean() <= 0.05
    # Where g answered, its label is explained, and the victim's own map stays at home.
    assert (np.abs(explained(computed) - victims)[foreign].max(axis=(1, 2)) > 0.1).mean() > 0.9


def test_an_ensemble_explains_the_member_that_answered(engine: Engine, load: Load) -> None:
    served = load("three", {"kind": "label-only"}, explanations=CAM)
    computed = engine.run(served, [NOISE], np.ones(64, dtype=np.bool_))
    device = next(served.victim.module(0).parameters()).device
    pictures = torch.from_numpy(NOISE).to(device) / 255.0
    members = served.victim.route(pictures).cpu().numpy()
    assert len(set(members.tolist())) > 1
    labels = torch.from_numpy(computed.probabilities.argmax(axis=1)).to(device)
    assert torch.equal(labels, top1(served.victim.logits(pictures)))
    each = np.stack([maps_of(served.victim.module(member), labels) for member in range(3)])
    expected = each[members, np.arange(64)]
    assert (np.abs(explained(computed) - expected).max(axis=(1, 2)) > 1e-6).mean() <= 0.05


@pytest.mark.parametrize(
    ("victim", "chain", "explanations", "sentence"),
    [
        ("plain", (), CAM, r"no defense of the chain \(none\) covers attribution maps"),
        ("plain", ({"kind": "label-only"},), CAM, r"chain \(label-only\) covers"),
        ("plain", (), {**OPEN, "layer": "features.77"}, r"the network has no layer 'features\.77'"),
        ("plain", (), {**OPEN, "layer": "classifier"}, r"does not give \(B, N, h, w\)"),
        ("plain", ({"kind": "dd-s", "layers": LAYERS},), CAM, r"chain \(dd-s\) covers"),
    ],
)
def test_what_cannot_be_explained_stops_the_start_and_names_the_key(
    load: Load,
    victim: str,
    chain: tuple[dict[str, object], ...],
    explanations: dict[str, Any],
    sentence: str,
) -> None:
    with pytest.raises(ConfigurationError, match=r"^models\.m\.explanations: .*" + sentence):
        load(victim, *chain, explanations=explanations)


@pytest.mark.parametrize(
    ("victim", "link", "explanations", "sentence"),
    [
        ("plain", DD, None, r"kind: deepdefense changes attribution maps, and this model serves"),
        (
            "plain",
            DD,
            {"interpreter": "relevance-cam"},
            r"weights: relevance-cam looks at signs of",
        ),
        ("three", DD, CAM, r"kind: deepdefense works on one network, and an ensemble answers"),
        ("plain", {**DD, "k": 11}, CAM, r"k: must be at most the 10 classes, not 11"),
        ("plain", {"kind": "deepdefense"}, CAM, r"layers: the bundle plain/1 holds no sensitiv"),
    ],
)
def test_a_defense_of_maps_that_cannot_be_stops_the_start_and_names_the_key(
    load: Load,
    victim: str,
    link: dict[str, Any],
    explanations: dict[str, Any] | None,
    sentence: str,
) -> None:
    with pytest.raises(ConfigurationError, match=r"^models\.m\.defenses\[0\]\." + sentence):
        load(victim, link, explanations=explanations)


@pytest.mark.parametrize(
    ("explanations", "sentence"),
    [
        ({}, r"models\.m\.explanations\.interpreter: this setting is required"),
        ({"interpreter": "lime"}, r"models\.m\.explanations\.interpreter"),
        ({**CAM, "cost": 0}, r"models\.m\.explanations\.cost"),
        ({**CAM, "cost": 257}, r"models\.m\.explanations\.cost must be at most limits\.max_req"),
        ({**CAM, "colour": 1}, r"models\.m\.explanations\.colour: there is no such setting"),
    ],
)
def test_settings_that_make_no_sense(
    models_root: Path, explanations: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        load_settings(model_dir=models_root, models={"m": {"explanations": explanations}})


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def started(
    load: Load, metrics: Metrics, settings: Build, link: dict[str, Any] = AM, **given: Any
) -> InferenceService:
    model = load("defended", link, explanations={**CAM, "cost": 3})
    engine = Engine(CPU, secret=b"a secret of some length", metrics=metrics, threads=1)
    plane = InferenceService([model], engine, settings=settings(**given), metrics=metrics)
    await plane.start()
    return plane


@pytest.mark.anyio
@pytest.mark.parametrize("device", [CPU])
@pytest.mark.parametrize("chosen", [AM, DD], ids=lambda link: link["kind"])
async def test_64_callers_who_mix_predict_and_explain_get_what_they_get_alone(
    load: Load, metrics: Metrics, settings: Build, device: torch.device, chosen: dict[str, Any]
) -> None:
    plane = await started(load, metrics, settings, chosen, batching={"max_batch_size": 32})
    (served,) = plane.catalogue.models()
    (link,) = served.chain.links
    networks = [served.victim.module(0)]
    networks += [link._misinformation] if chosen is AM else []  # type: ignore[attr-defined]
    before = [dict(state_of(network)) for network in networks]
    alone = [await plane.explain(plane.view("m"), row[None]) for row in NOISE]

    async def caller(index: int) -> list[float]:
        far: list[float] = []
        for turn in range(4):
            row = (index * 7 + turn * 13) % len(NOISE)
            if (index + turn) % 2:
                answer = await plane.explain(plane.view("m"), NOISE[row][None])
                far.append(float(np.abs(answer.attributions - alone[row].attributions).max()))
                probabilities = answer.probabilities
            else:
                probabilities = await plane.predict(plane.view("m"), NOISE[row][None])
            far.append(float(np.abs(probabilities - alone[row].probabilities).max()))
        return far

    far = np.concatenate(await asyncio.gather(*(caller(index) for index in range(64))))
    assert far.shape == (64 * 6,)
    # The edge of a step: of the grid of probabilities, which am may stretch, or of that of maps.
    assert (far > 1e-6).mean() <= 0.1
    assert far.max() < 0.01
    assert [dict(state_of(network)) for network in networks] == before
    value = metrics.registry.get_sample_value
    assert value("intaglio_explained_samples_total", {"model": "m"}) == 64 + 64 * 2
    assert value("intaglio_samples_total", {"model": "m"}) == 64 + 64 * 4
    await plane.drain()


@pytest.mark.anyio
@pytest.mark.parametrize("device", [CPU])
async def test_requests_for_maps_of_several_batches_of_none_and_of_too_many(
    load: Load, metrics: Metrics, settings: Build, device: torch.device
) -> None:
    limits = {"max_request_samples": 100}
    plane = await started(load, metrics, settings, limits=limits, batching={"max_batch_size": 8})
    answer = await plane.explain(plane.view("m"), NOISE[:33])
    assert answer.attributions.shape == (33, *(plane.view("m").maps or ()))
    assert answer.attributions.flags.writeable
    said = await plane.predict(plane.view("m"), NOISE[:33])
    assert (np.abs(said - answer.probabilities).max(axis=1) > 1e-6).mean() <= 0.1
    none = await plane.explain(plane.view("m"), NOISE[:0])
    assert none.attributions.shape[0] == 0
    with pytest.raises(TooLarge, match=r"counts as 3 samples, .* = 100; this one explains 34"):
        await plane.explain(plane.view("m"), NOISE[:34])
    await plane.drain()


@pytest.mark.anyio
async def test_who_serves_none_says_so(settings: Build, metrics: Metrics) -> None:
    given = settings(models={"digits": {}})
    engine = Engine(CPU, secret=b"a secret of some length", metrics=metrics)
    plane = InferenceService(load_models(given, CPU), engine, settings=given, metrics=metrics)
    await plane.start()
    assert plane.view("digits").maps is None
    with pytest.raises(NotFound, match="'digits' has no explanations"):
        await plane.explain(plane.view("digits"), NOISE[:1])
    await plane.drain()


@pytest.mark.anyio
async def test_an_explained_image_takes_the_room_of_several(
    batching: Callable[..., BatchingSettings],
) -> None:
    batcher: Batcher[str] = Batcher(
        lambda batches: None, settings=batching(queue_samples=16), metrics=Metrics()
    )
    waiting = asyncio.ensure_future(batcher.explain("g", greys(1, 2, 3), timeout_s=5.0, cost=4))
    await asyncio.sleep(0)
    assert batcher.refusal(4, 1e6) is None
    assert isinstance(batcher.refusal(5, 1e6), QueueFull)
    # Four samples make a batch, so each of the three is one by itself.
    assert [batch.samples for batch in iter(batcher.take, None)] == [1, 1, 1]
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


@pytest.mark.anyio
async def test_a_computation_that_forgets_the_maps_is_a_failure(
    batching: Callable[..., BatchingSettings],
) -> None:
    def compute(batches: Any) -> None:
        while (batch := batches.take()) is not None:
            rows = np.full((batch.samples, 2), 0.5, dtype=np.float32)
            batches.done(batch, Computed(rows, np.zeros(batch.samples, dtype=np.bool_)))

    batcher: Batcher[str] = Batcher(compute, settings=batching(), metrics=Metrics())
    assert (await batcher.submit("g", greys(1), timeout_s=5.0)).shape == (1, 2)
    with pytest.raises(Exception, match="internal error"):
        await batcher.explain("g", greys(1), timeout_s=5.0, cost=1)

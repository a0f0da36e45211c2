"""Stealing with maps: what is kept, what a clone minimises, and what it is worth."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from attack_client.attacks.attribution import Attribution
from attack_client.attacks.attribution_clone import train_attribution_clone
from attack_client.attacks.attribution_command import INTERPRETERS
from attack_client.attacks.attribution_objective import (
    MapMatching,
    MapMatchingObjective,
    as_pictures,
    unit_maps,
)
from attack_client.attacks.knockoff import Knockoff
from attack_client.callable_victim import CallableVictim
from attack_client.clone import CloneRecipe, train_clone
from attack_client.errors import ProtocolError, TransferSetError
from attack_client.predictions import predict
from attack_client.scoring import clone_seed
from attack_client.theft import steal
from attack_client.transfer_set import TransferSet
from models.architectures import build
from models.card import Normalisation
from models.explain import build_interpreter, canonical_maps, interpreter_names
from models.training.data import to_unit
from models.training.objective import Batch
from tests.attack_client.toys import CLASSES, SHAPE, answers, block_pool, blocks, rises

RECIPE = CloneRecipe(architecture="cnn-small", epochs=10)
GREY = Normalisation(mean=(0.5,), std=(0.3,))


def network(architecture: str = "cnn-small", *, seed: int = 0, side: int = 8) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build(
            architecture, channels=1, size=(side, side), outputs=CLASSES, normalisation=GREY
        )


@pytest.fixture(scope="module")
def explained() -> CallableVictim:
    """A network that imitates the toy task, with its maps as a service serves them."""
    images = blocks(400, seed=5)
    mind = train_clone(images, answers(images), classes=CLASSES, recipe=RECIPE, seed=9)
    interpreter = build_interpreter("gradient-x-input", mind)

    def explain(images: np.ndarray) -> tuple[np.ndarray, Tensor]:
        said = predict(mind, images)
        classes = torch.from_numpy(said.argmax(axis=1))
        maps = interpreter(to_unit(torch.from_numpy(images.copy())), classes)
        return said, canonical_maps(maps.detach())

    _, maps = explain(images[:1])
    height, width = maps.shape[1:]
    return CallableVictim(
        lambda images: predict(mind, images),
        shape=SHAPE,
        classes=CLASSES,
        explain=explain,
        maps=(height, width),
    )


def test_maps_are_kept_with_the_answers_and_survive_a_torn_end(
    explained: CallableVictim, tmp_path: Path
) -> None:
    pool = block_pool(100)

    async def run(resume: bool = False) -> TransferSet:
        return await steal(
            explained, pool, Attribution(seed=2), budget=70, out=tmp_path, batch=16, resume=resume
        )

    with asyncio.run(run()) as stolen:
        images, said = stolen.prefix(70)
        maps = stolen.maps(0, 70)
        reply = asyncio.run(explained.explain(images))
        np.testing.assert_allclose(maps, reply.attributions, atol=1e-3)
        np.testing.assert_allclose(said, reply.probabilities, atol=1e-6)
        np.testing.assert_array_equal(stolen.maps(33, 5), maps[33:38])
    file = tmp_path / "records.bin"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    with asyncio.run(run(resume=True)) as stolen:
        np.testing.assert_array_equal(stolen.maps(0, 70), maps)
    assert len(file.read_bytes()) == len(whole)
    # The same images as KnockoffNets of this seed asks about: maps are all that is added.
    plain = asyncio.run(
        steal(explained, pool, Knockoff(seed=2), budget=70, out=tmp_path / "plain", batch=16)
    )
    with plain:
        np.testing.assert_array_equal(plain.prefix(70)[0], images)
        with pytest.raises(TransferSetError, match="keeps no attribution maps"):
            plain.maps(0, 1)


def test_a_set_without_maps_is_written_as_before(explained: CallableVictim, tmp_path: Path) -> None:
    pool = block_pool(10)
    asyncio.run(steal(explained, pool, Knockoff(), budget=10, out=tmp_path)).close()
    assert "maps" not in (tmp_path / "meta.json").read_text()
    assert (tmp_path / "records.bin").read_bytes()[:4] == b"ITR1"


def test_a_victim_without_maps_is_refused_before_a_query(tmp_path: Path) -> None:
    silent = CallableVictim(answers, shape=SHAPE, classes=CLASSES, name="silent")
    with pytest.raises(ProtocolError, match="'silent' at python: announces no maps"):
        asyncio.run(steal(silent, block_pool(9), Attribution(), budget=9, out=tmp_path / "t"))
    assert not (tmp_path / "t").exists()


def total(objective: MapMatchingObjective, batch: Batch) -> Tensor:
    losses: Mapping[str, Tensor] = objective.losses(batch)
    return torch.stack(list(losses.values())).sum()


@pytest.mark.parametrize("interpreter", ["grad-cam", "gradient-x-input"])
def test_the_gradient_goes_through_the_explanation(interpreter: str) -> None:
    clone = network().double()
    objective = MapMatchingObjective(clone, MapMatching(weight=3.0, interpreter=interpreter))
    draws = torch.Generator().manual_seed(0)
    batch = Batch(
        images=torch.rand(6, *SHAPE, generator=draws, dtype=torch.float64),
        targets=torch.rand(6, CLASSES, generator=draws, dtype=torch.float64).softmax(dim=1),
        paired=torch.rand(6, *SHAPE, generator=draws, dtype=torch.float64),
    )
    weights = [weight for weight in clone.parameters() if weight.ndim > 1]
    torch.autograd.backward(total(objective, batch))
    for weight in weights:
        assert weight.grad is not None
        direction = torch.randn(weight.shape, generator=draws, dtype=torch.float64)
        slope = float((weight.grad * direction).sum())
        step = 1e-7
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                weight.add_(direction, alpha=sign * step)
            values.append(float(total(objective, batch).detach()))
            with torch.no_grad():
                weight.sub_(direction, alpha=sign * step)
        assert slope == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("interpreter", INTERPRETERS)
@pytest.mark.parametrize("architecture", ["cnn5", "lenet", "resnet20"])
def test_any_architecture_is_trained_towards_the_maps(interpreter: str, architecture: str) -> None:
    clone = network(architecture, side=28)
    objective = MapMatchingObjective(clone, MapMatching(weight=10.0, interpreter=interpreter))
    draws = torch.Generator().manual_seed(0)
    paired = torch.zeros(8, 1, 28, 28)
    paired[:, :, 4:12, 4:12] = 1.0
    batch = Batch(
        images=torch.rand(8, 1, 28, 28, generator=draws),
        targets=torch.arange(8) % CLASSES,
        paired=paired,
    )
    optimiser = torch.optim.Adam(clone.parameters(), 1e-3)
    maps = []
    for _ in range(12):
        losses = objective.losses(batch)
        maps.append(float(losses["maps"].detach()))
        optimiser.zero_grad()
        torch.autograd.backward(torch.stack(list(losses.values())).sum())
        optimiser.step()
    assert min(maps[-3:]) < maps[0], maps
    assert all(weight.requires_grad for weight in clone.parameters())
    assert clone.training


def test_maps_are_compared_whatever_their_scale_offset_and_size() -> None:
    maps = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(0))
    for other in (maps * 1e-12, maps * 1e6 + 3.0, maps - 7.0):
        torch.testing.assert_close(unit_maps(other), unit_maps(maps), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(unit_maps(maps).square().sum(dim=(1, 2)), torch.ones(3))
    pictures = as_pictures(maps.numpy(), (3, 8, 6))
    assert pictures.shape == (3, 3, 8, 6)
    assert (pictures.max(axis=(1, 2, 3)) > 200).all()
    np.testing.assert_array_equal(pictures[:, 0], pictures[:, 2])


def test_a_flat_map_says_nothing_and_breaks_nothing() -> None:
    flat = torch.full((2, 4, 4), 0.3, requires_grad=True)
    units = unit_maps(flat)
    assert not units.any()
    torch.autograd.backward(units.sum())
    assert flat.grad is not None
    assert flat.grad.isfinite().all()
    assert not as_pictures(np.full((2, 4, 4), 7.0, dtype=np.float32), SHAPE).any()

    clone = network()
    batch = Batch(
        images=torch.rand(4, *SHAPE), targets=torch.arange(4), paired=torch.full((4, *SHAPE), 0.5)
    )
    losses = MapMatchingObjective(clone, MapMatching(weight=5.0)).losses(batch)
    assert float(losses["maps"].detach()) == 0.0
    torch.autograd.backward(total(MapMatchingObjective(clone, MapMatching(weight=5.0)), batch))
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in clone.parameters())


def test_fidelity_rises_with_the_budget_and_maps_teach_more(
    explained: CallableVictim, tmp_path: Path
) -> None:
    recipe = CloneRecipe(architecture="cnn-small", epochs=20)
    test = blocks(400, seed=2)
    truth = asyncio.run(explained.query(test)).probabilities.argmax(axis=1)
    run = steal(explained, block_pool(200), Attribution(), budget=200, out=tmp_path)

    with asyncio.run(run) as stolen:

        def curve(weight: float) -> list[float]:
            matching, found = MapMatching(weight, "gradient-x-input"), []
            for budget in (8, 30, 200):
                clone = train_attribution_clone(
                    stolen, budget=budget, labels="hard", recipe=recipe, matching=matching
                )
                said = predict(clone, test).argmax(axis=1)
                found.append(float((said == truth).mean()))
            return found

        without, told = curve(0.0), curve(10.0)
        images, said = stolen.prefix(30)
        same = train_clone(
            images, said.argmax(axis=1), classes=CLASSES, recipe=recipe, seed=clone_seed(0)
        )
    assert rises(without), without
    assert rises(told), told
    assert without[0] < 0.8, without
    assert told[-1] > 0.9, told
    assert told[0] + told[1] > without[0] + without[1] + 0.05, (without, told)
    agreed = float((predict(same, test).argmax(axis=1) == truth).mean())
    assert agreed == without[1], "a lambda of 0 is the clone without maps"


def test_augmented_and_held_out_clones_learn_from_maps_too(
    explained: CallableVictim, tmp_path: Path
) -> None:
    run = steal(explained, block_pool(120), Attribution(), budget=120, out=tmp_path)
    with asyncio.run(run) as stolen:
        for labels in ("soft", "hard"):
            recipe = CloneRecipe(
                architecture="cnn-small", epochs=2, augment="shift", holdout=0.2, batch_size=32
            )
            clone = train_attribution_clone(
                stolen, budget=120, labels=labels, recipe=recipe, matching=MapMatching(1.0)
            )  # fmt: skip
            assert np.isfinite(predict(clone, blocks(4, seed=0))).all()


def test_the_command_line_knows_the_interpreters() -> None:
    assert interpreter_names() == INTERPRETERS
    with pytest.raises(ValueError, match="lambda must be"):
        MapMatching(weight=-1.0)
    with pytest.raises(ValueError, match="interpreter must be one of"):
        MapMatching(interpreter="lime")
    assert (
        sorted([MapMatching(2.0), MapMatching(0.5)])[0].name == "attribution(lambda=0.5, grad-cam)"
    )
    named = MapMatching(0.5, layer="features.3").name
    assert named == "attribution(lambda=0.5, grad-cam, layer=features.3)"

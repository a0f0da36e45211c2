"""Averaging: what it cancels, what it cannot, and what lies on disk."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from attack_client.adaptive.adaptations import Adaptations
from attack_client.adaptive.contract import Harvest, Knowledge
from attack_client.adaptive.views import Style, view
from attack_client.attacks.knockoff import Knockoff
from attack_client.contract import Attack, Oracle, Pool
from attack_client.errors import TransferSetError, Unreachable
from attack_client.theft import steal
from attack_client.transfer_set import TransferSet
from tests.attack_client.adaptive.toys import Bent, central, flat_pool, fresh_noise, hashed_noise
from tests.attack_client.stub import CLASSES

KNOWLEDGE = Knowledge(classes=CLASSES)


def stolen(out: Path, victim: Bent, pool: Pool, adapt: str, budget: int) -> Harvest:
    adaptations = Adaptations.of([adapt] if adapt else [])
    run = steal(victim, pool, adaptations.adapt(Knockoff(seed=3)), budget=budget, out=out)
    with asyncio.run(run) as transfer_set:
        return adaptations.harvest(*transfer_set.prefix(budget), KNOWLEDGE)


def off(harvest: Harvest) -> float:
    """Mean L1 distance of what a clone is told from what the victim said."""
    return float(np.abs(harvest.answers - central(harvest.images)).sum(axis=1).mean())


def test_noise_that_is_drawn_anew_is_averaged_out(tmp_path: Path) -> None:
    pool = flat_pool(60)
    once = off(stolen(tmp_path / "1", Bent(central, fresh_noise()), pool, "", 40))
    harvest = stolen(
        tmp_path / "16", Bent(central, fresh_noise()), pool, "repeat-averaging:n=16", 640
    )
    assert len(harvest.images) == 40
    assert off(harvest) < 0.4 * once


def test_the_same_answer_sixteen_times_is_that_answer(tmp_path: Path) -> None:
    pool = flat_pool(60)
    once = off(stolen(tmp_path / "1", Bent(central, hashed_noise), pool, "", 40))
    victim = Bent(central, hashed_noise)
    harvest = stolen(tmp_path / "16", victim, pool, "repeat-averaging:n=16", 640)
    assert off(harvest) == pytest.approx(once, abs=1e-5)
    assert (len(victim.asked), len(set(victim.asked))) == (640, 40), "paid sixteen times"


def test_noise_by_the_image_is_averaged_out_over_views(tmp_path: Path) -> None:
    pool, adapt = flat_pool(60), "augmentation-averaging:n=16,style=shift"
    once = off(stolen(tmp_path / "1", Bent(central, hashed_noise), pool, "", 40))
    clean = off(stolen(tmp_path / "clean", Bent(central), pool, adapt, 640))
    assert clean == pytest.approx(0.0, abs=1e-6), "a view means what the image means"
    assert off(stolen(tmp_path / "16", Bent(central, hashed_noise), pool, adapt, 640)) < 0.5 * once


def test_the_transfer_set_holds_every_answer_and_any_prefix_of_it(tmp_path: Path) -> None:
    pool = flat_pool(60)
    whole = stolen(tmp_path, Bent(central), pool, "augmentation-averaging:n=3", 60)
    order = np.random.default_rng(3).permutation(60)[:20]
    np.testing.assert_array_equal(whole.images, pool.images[order])
    np.testing.assert_array_equal(whole.positions, np.arange(20))
    adaptations = Adaptations.of(["augmentation-averaging:n=3"])
    with TransferSet.read(tmp_path) as transfer_set:
        assert transfer_set.complete == transfer_set.sent() == 60
        assert transfer_set.provenance.attack == "knockoff"
        assert transfer_set.provenance.configuration == (
            "knockoff(seed=3) via augmentation-averaging(n=3, style='affine', seed=0)"
        )
        part = adaptations.harvest(*transfer_set.prefix(32), KNOWLEDGE)
    assert len(part.images) == 10, "the eleventh image lacks a version"
    np.testing.assert_array_equal(part.answers, whole.answers[:10])


def test_a_theft_goes_on_after_a_failure_amid_the_versions_of_an_image(tmp_path: Path) -> None:
    pool = flat_pool(60)
    attack = Adaptations.of(["augmentation-averaging:n=5"]).adapt(Knockoff(seed=3))
    first = Bent(central, answers=2)
    with pytest.raises(Unreachable):
        asyncio.run(steal(first, pool, attack, budget=100, out=tmp_path, batch=8, concurrency=1))
    second = Bent(central)
    with pytest.raises(TransferSetError, match="configuration was"):
        asyncio.run(steal(second, pool, Knockoff(seed=3), budget=20, out=tmp_path, resume=True))
    run = steal(second, pool, attack, budget=100, out=tmp_path, batch=11, resume=True)
    with asyncio.run(run) as transfer_set:
        assert transfer_set.complete == 100
    assert len(first.asked) == 16
    assert len(second.asked) == 84


def test_an_attack_is_told_the_average(tmp_path: Path) -> None:
    told: list[NDArray[np.float32]] = []

    class Curious(Attack):
        kind = "curious"

        async def run(self, oracle: Oracle, pool: Pool) -> None:
            assert oracle.budget == 4
            told.append(await oracle.ask(0, pool.images[:2]))
            told.append(await oracle.ask(2, pool.images[2:4]))

    adaptations = Adaptations.of(["repeat-averaging:n=4"])
    attack, pool = adaptations.adapt(Curious()), flat_pool(8)
    run = steal(Bent(central, fresh_noise()), pool, attack, budget=18, out=tmp_path)
    with asyncio.run(run) as transfer_set:
        assert transfer_set.complete == 16
        harvest = adaptations.harvest(*transfer_set.prefix(16), KNOWLEDGE)
    np.testing.assert_array_equal(harvest.answers, np.concatenate(told))


@pytest.mark.parametrize("style", ["affine", "shift", "shift-flip"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_view_does_not_depend_on_its_neighbours(style: Style, channels: int) -> None:
    generator = np.random.default_rng(2)
    images = generator.integers(0, 256, size=(7, channels, 12, 10), dtype=np.uint8)
    together = view(images, style, seed=4, start=20, number=1)
    for row in range(7):
        alone = view(images[row : row + 1], style, seed=4, start=20 + row, number=1)
        np.testing.assert_array_equal(alone[0], together[row])
    assert together.shape == images.shape
    assert not np.array_equal(together, view(images, style, seed=4, start=20, number=2))
    assert not np.array_equal(together, view(images, style, seed=5, start=20, number=1))


def test_a_view_moves_a_dot_a_little() -> None:
    images = np.zeros((200, 1, 21, 21), dtype=np.uint8)
    images[:, 0, 8:13, 8:13] = 200
    for style in ("affine", "shift"):
        moved = view(images, style, seed=0, start=0, number=1)
        rows, columns = np.arange(21)[:, None], np.arange(21)
        mass = moved[:, 0].sum(axis=(1, 2), dtype=np.float64)
        assert mass.min() > 0
        offsets = np.stack(
            [(moved[:, 0] * place).sum(axis=(1, 2)) / mass - 10 for place in (rows, columns)]
        )
        assert 0.5 < np.abs(offsets).max() <= 3.0
        assert abs(offsets.mean()) < 0.2


def test_colours_change_a_little_and_grey_stays_grey() -> None:
    images = np.full((50, 3, 6, 6), 100, dtype=np.uint8)
    inner = view(images, "affine", seed=0, start=0, number=1)[:, :, 2:4, 2:4].astype(int)
    assert np.abs(inner - 100).max() <= 12
    assert np.ptp(inner, axis=1).max() <= 1
    red = images * np.array([2, 0, 0], dtype=np.uint8).reshape(1, 3, 1, 1)
    seen = view(red, "affine", seed=0, start=0, number=1)[:, :, 2:4, 2:4]
    assert (seen[:, 0] > seen[:, 1]).all()
    assert (seen[:, 0] > seen[:, 2]).all()
    assert seen[:, 1].max() > 0, "the hue moves"

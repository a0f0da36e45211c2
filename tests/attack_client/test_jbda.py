"""JBDA: sizes, steps, and what is paid for."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attack_client.apprentice import Apprentice
from attack_client.attacks.jbda import Jbda
from attack_client.attacks.jbda_step import step_along, step_towards
from attack_client.attacks.jbda_targeted import JbdaTargeted
from attack_client.callable_victim import CallableVictim
from attack_client.contract import Pool
from attack_client.errors import AttackError, PoolError
from attack_client.theft import steal
from tests.attack_client.stub import LinearModel
from tests.attack_client.toys import CLASSES, SHAPE, answers, block_pool, blocks


class Linear(nn.Module):
    """z = W x, with a gradient that is known; counts backward passes through its input."""

    def __init__(self) -> None:
        super().__init__()
        draws = torch.Generator().manual_seed(0)
        self.weights = nn.Parameter(torch.randn(CLASSES, 64, generator=draws))
        self.backwards = 0

    def forward(self, images: Tensor) -> Tensor:
        if images.requires_grad:
            images.register_hook(self._count)  # type: ignore[no-untyped-call]
        return images.flatten(1) @ self.weights.T

    def _count(self, gradient: Tensor) -> None:
        self.backwards += 1


def apprentice_of(network: nn.Module) -> Apprentice:
    made = Apprentice("cnn-small", blocks(9, seed=0), classes=CLASSES, seed=0)
    made.network = network
    return made


def steal_with(attack: Jbda, budget: int, out: Path, pool: Pool | None = None) -> NDArray[np.uint8]:
    victim = CallableVictim(answers, shape=SHAPE, classes=CLASSES)
    run = steal(victim, pool or block_pool(300), attack, budget=budget, out=out)
    with asyncio.run(run) as stolen:
        return stolen.prefix(budget)[0]


def test_the_set_doubles_from_150_to_4800() -> None:
    attack = Jbda()
    assert attack.sizes(4800) == (150, 300, 600, 1200, 2400, 4800)
    assert attack.published_queries(4800) == 150 * (2**6 - 1) == 9450
    assert attack.sizes(100) == (100,)
    assert attack.sizes(1000) == (150, 300, 600, 1000)
    assert Jbda(reservoir=400).sizes(2400) == (150, 300, 600, 1200, 1600, 2000, 2400)


@pytest.mark.parametrize(("kind", "budget"), [(Jbda, 4800), (JbdaTargeted, 600)])
def test_sizes_on_the_way_are_those_promised(kind: type[Jbda], budget: int, tmp_path: Path) -> None:
    asked = []
    model = LinearModel((1, 16, 16))

    def counted(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        asked.append(len(images))
        return model(images)

    victim = CallableVictim(counted, shape=model.shape, classes=model.classes)
    attack = kind(clone="lenet", epochs=1, step="strong")
    pool = Pool(name="noise", images=model.images(150), labels=np.zeros(150, dtype=np.int64))
    run = steal(victim, pool, attack, budget=budget, out=tmp_path, batch=budget)
    with asyncio.run(run) as stolen:
        images, _ = stolen.prefix(budget)
    assert np.cumsum(asked).tolist() == list(attack.sizes(budget))
    assert len({image.tobytes() for image in images}) == budget
    np.testing.assert_array_equal(images[:150], pool.images[:150])


def test_a_step_is_the_sign_of_the_gradient_clipped_and_rounded() -> None:
    network = Linear()
    images, labels = blocks(600, seed=4), np.arange(600) % CLASSES
    pixels = np.full((1, 1, 1), 0.1, dtype=np.float32)
    moved = step_along(apprentice_of(network), images, labels, pixels)
    signs = network.weights.detach().sign().numpy()[labels].reshape(-1, *SHAPE)
    wanted = np.clip(images / 255 + 0.1 * signs, 0, 1) * 255
    assert np.abs(moved - wanted).max() <= 0.5 + 1e-3
    inside = (images > 26) & (images < 229)
    steps = np.abs(moved.astype(int) - images)[inside]
    assert set(steps.tolist()) <= {25, 26}, "lambda is in pixels"
    assert network.backwards == 2, "600 images are two batches, one backward pass each"


def test_the_targeted_step_goes_towards_the_class_in_five_parts() -> None:
    network = Linear()
    images, targets = blocks(50, seed=4), np.full(50, 2)
    pixels = np.full((1, 1, 1), 0.1, dtype=np.float32)
    moved = step_towards(apprentice_of(network), images, targets, pixels, steps=5)
    assert np.abs(moved.astype(int) - images).max() <= 26
    assert network.backwards == 5

    def share(shown: NDArray[np.uint8]) -> Tensor:
        with torch.no_grad():
            logits: Tensor = network(torch.from_numpy(shown).float() / 255)
        return logits.log_softmax(dim=1)[:, 2]

    assert bool((share(moved) > share(images)).all())


@pytest.mark.parametrize("channels", [1, 3])
def test_presets_are_in_pixels(channels: int) -> None:
    draws = np.random.default_rng(0)
    images = draws.integers(0, 256, size=(40, channels, 4, 4)).astype(np.uint8)
    images[:, 0] //= 2

    def pixels(step: Any) -> NDArray[np.float32]:
        found = Jbda(step=step)._pixels(images)
        assert found.shape == (channels, 1, 1)
        return found[:, 0, 0]

    deviation = images.reshape(40, channels, -1).transpose(1, 0, 2).reshape(channels, -1).std(1)
    np.testing.assert_allclose(pixels("ini"), 0.1 * deviation / 255, rtol=1e-5)
    np.testing.assert_allclose(pixels("strong"), 0.1)
    np.testing.assert_allclose(pixels(0.05), 0.05)


def test_an_image_that_is_known_is_not_asked_about_again(tmp_path: Path) -> None:
    # At the end of the range a step changes nothing: white stays white, black stays black.
    images = blocks(60, seed=1)
    images[:20] = 255
    images[20:40] = images[40:60]
    pool = Pool(name="repeats", images=images, labels=np.zeros(60, dtype=np.int64))
    with pytest.raises(PoolError, match="pool repeats has 21 different images"):
        steal_with(Jbda(clone="cnn-small", seeds=22), 22, tmp_path / "a", pool)
    attack = Jbda(clone="cnn-small", seeds=21, epochs=1, step=1.0)
    asked = steal_with(attack, 60, tmp_path / "b", pool)
    assert len({image.tobytes() for image in asked}) == 60


def test_a_round_that_makes_nothing_new_ends_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Jbda, "move", lambda self, apprentice, images, *_: images)
    with pytest.raises(AttackError, match="round 1 of jbda made no image that is new"):
        steal_with(Jbda(clone="cnn-small", seeds=10, epochs=1), 30, tmp_path)


def test_seeds_are_the_first_or_drawn(tmp_path: Path) -> None:
    pool = block_pool(300)
    chosen = steal_with(
        Jbda(choose="random", seeds=50, clone="cnn-small"), 50, tmp_path / "r", pool
    )
    assert not np.array_equal(chosen, pool.images[:50])
    assert {image.tobytes() for image in chosen} <= {image.tobytes() for image in pool.images}


def test_an_apprentice_keeps_what_it_learnt() -> None:
    images = blocks(200, seed=1)
    held = blocks(200, seed=2)

    def taught(lessons: int) -> Apprentice:
        made = Apprentice("cnn-small", images, classes=CLASSES, seed=4)
        for _ in range(lessons):
            made.learn(images, answers(images), epochs=3)
        return made

    agreed = [
        float((taught(n).answer(held).argmax(1) == answers(held).argmax(1)).mean())
        for n in (0, 1, 4)
    ]
    assert agreed[0] < agreed[1] < agreed[2] + 0.02, agreed
    np.testing.assert_array_equal(taught(2).answer(held), taught(2).answer(held))

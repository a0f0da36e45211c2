"""Composite images: weights, rounding, fresh images for every epoch, and the bill."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
import torch

from attack_client.attacks.composite import Composite
from attack_client.callable_victim import CallableVictim
from attack_client.clone import CloneRecipe, train_clone
from attack_client.contract import Pool
from attack_client.errors import AttackError
from attack_client.predictions import hard_labels
from attack_client.preflight import check_epochs
from attack_client.theft import steal
from tests.attack_client.toys import CLASSES, SHAPE, answers, block_pool, blocks


def extremes() -> np.ndarray:
    """One black and one white image: a blend of two shows its weight."""
    images = np.zeros((2, *SHAPE), dtype=np.uint8)
    images[1] = 255
    return images


def test_two_images_are_blended_by_a_uniform_share() -> None:
    levels = Composite(seed=1).blends(extremes(), 0)[:, 0, 0, 0] / 255
    mixed = np.sort(levels[(levels > 0) & (levels < 1)])
    # Half of the pairs are twice the same image; of the others p is uniform in [0, 1].
    assert 0.45 < len(mixed) / len(levels) < 0.55
    uniform = np.linspace(0, 1, len(mixed))
    assert np.abs(mixed - uniform).max() < 0.05


@pytest.mark.parametrize("parts", [2, 3, 7])
def test_a_blend_is_convex_rounded_and_survives_the_wire(parts: int) -> None:
    pool = blocks(5, seed=0)
    blends = Composite(parts=parts).blends(pool, 0)
    assert blends.dtype == np.uint8
    assert (blends >= pool.min(axis=0)).all()
    assert (blends <= pool.max(axis=0)).all()
    as_floats = torch.from_numpy(blends).float() / 255
    np.testing.assert_array_equal((as_floats * 255).round().to(torch.uint8).numpy(), blends)
    one = np.full((1, *SHAPE), 77, dtype=np.uint8)
    assert (Composite(parts=parts).blends(one, 0) == 77).all(), "weights sum to 1"


def test_concentration_decides_how_equal_the_parts_are() -> None:
    pool = extremes()
    spread = [
        float(Composite(concentration=a).blends(pool, 0)[:, 0, 0, 0].std()) for a in (0.1, 1, 100)
    ]
    assert spread == sorted(spread, reverse=True)


def test_every_chunk_is_drawn_anew_and_labels_play_no_part(tmp_path: Path) -> None:
    attack = Composite()
    pool = block_pool(300)
    first, second = attack.blends(pool.images, 0), attack.blends(pool.images, 1)
    shared = {image.tobytes() for image in first} & {image.tobytes() for image in second}
    assert len(shared) < len(first) / 100
    asked = []
    for labels in (pool.labels, np.zeros(0, dtype=np.int64)):
        victim = CallableVictim(answers, shape=SHAPE, classes=CLASSES)
        unlabelled = Pool(name="p", images=pool.images, labels=labels)
        out = tmp_path / str(len(labels))
        with asyncio.run(steal(victim, unlabelled, attack, budget=5000, out=out)) as stolen:
            asked.append(stolen.prefix(5000)[0])
            distinct = len({image.tobytes() for image in asked[-1]})
            assert 4900 < distinct <= 5000
            assert stolen.sent() == distinct, "what came out equal is not paid for twice"
    np.testing.assert_array_equal(asked[0], asked[1])


def test_a_clone_of_fresh_images_has_as_many_epochs_as_it_paid_for() -> None:
    recipe = CloneRecipe(architecture="cnn-small", per_epoch=40)
    plan = recipe.plan(400, seed=0)
    assert (plan.epochs, plan.batch_size) == (10, 16)
    images = blocks(400, seed=1)
    clone = train_clone(
        images, hard_labels(answers(images)), classes=CLASSES, recipe=recipe, seed=0
    )
    assert not clone.training
    check_epochs(recipe, (40, 400))
    with pytest.raises(AttackError, match="a budget of 50 queries is not a whole number of epochs"):
        check_epochs(recipe, (40, 50))
    with pytest.raises(ValueError, match="goes without a holdout"):
        CloneRecipe(architecture="cnn-small", per_epoch=40, holdout=0.1)

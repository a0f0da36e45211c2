"""A clone learns what it was told, and the same clone comes out twice."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from attack_client.clone import CloneRecipe, default_epochs, train_clone
from attack_client.predictions import agreement, hard_labels, predict
from models.errors import ArchitectureError
from models.training.history import EpochRecord
from models.training.progress import Silent
from tests.attack_client.stub import LinearModel

RECIPE = CloneRecipe(architecture="cnn-small", epochs=10)


def blocks(count: int, seed: int) -> NDArray[np.uint8]:
    """Images of four grey squares each, ``(count, 1, 8, 8)``."""
    levels = np.random.default_rng(seed).integers(0, 256, size=(count, 1, 2, 2))
    return np.kron(levels, np.ones((1, 1, 4, 4))).astype(np.uint8)


def victim(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """softmax of a linear function of the four levels, ``(count, 4)``."""
    levels = images[:, 0, ::4, ::4].reshape(len(images), 4) / 255 - 0.5
    shares = np.exp(6 * levels @ np.random.default_rng(7).normal(size=(4, 4)))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True), dtype=np.float32)


def test_fidelity_rises_with_the_budget_and_soft_answers_teach_more() -> None:
    pool, test = blocks(400, seed=1), blocks(400, seed=2)
    truth = hard_labels(victim(test))

    def curve(*, soft: bool) -> list[float]:
        found = []
        for budget in (8, 80, 400):
            answers = victim(pool[:budget])
            targets = answers if soft else hard_labels(answers)
            clone = train_clone(pool[:budget], targets, classes=4, recipe=RECIPE, seed=0)
            found.append(agreement(predict(clone, test), truth))
        return found

    soft, hard = curve(soft=True), curve(soft=False)
    assert soft == sorted(soft)
    assert hard == sorted(hard)
    assert soft[0] < 0.9
    assert soft[-1] > 0.95
    assert sum(soft) > sum(hard)


def test_the_same_seed_gives_the_same_clone_and_leaves_torch_alone(model: LinearModel) -> None:
    images = model.images(64)
    recipe = CloneRecipe(architecture="cnn-small", epochs=2, holdout=0.25)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()

    def weights(seed: int) -> torch.Tensor:
        clone = train_clone(images, model(images), classes=5, recipe=recipe, seed=seed)
        assert not clone.training
        return torch.cat([parameter.detach().ravel() for parameter in clone.parameters()])

    first, second, other = weights(1), weights(1), weights(2)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_epochs_follow_from_the_budget() -> None:
    assert [default_epochs(n) for n in (1, 500, 6_000, 50_000, 10**6)] == [100, 100, 50, 6, 5]
    plan = CloneRecipe(architecture="lenet").plan(200, seed=0)
    assert plan.epochs == 100
    assert plan.batch_size == 25, "a small budget still gets several steps per epoch"
    assert plan.selection == "last"
    assert CloneRecipe(architecture="lenet", holdout=0.1).plan(200, 0).selection == (
        "best-on-validation"
    )


class Watching(Silent):
    """Keeps what every epoch got on the validation images."""

    def __init__(self) -> None:
        self.found: list[float | None] = []

    def epoch(self, record: EpochRecord) -> None:
        self.found.append(record.accuracy)


def test_the_epoch_kept_is_the_best_on_the_attackers_own_held_out_answers() -> None:
    images = blocks(200, seed=1)
    answers = victim(images)
    recipe = CloneRecipe(architecture="cnn-small", epochs=8, holdout=0.2)
    watching = Watching()
    clone = train_clone(images, answers, classes=4, recipe=recipe, seed=4, reporter=watching)
    held = np.random.default_rng(4).permutation(200)[:40]
    kept = agreement(predict(clone, images[held]), hard_labels(answers[held]))
    known = [share for share in watching.found if share is not None]
    assert len(known) == 8
    assert kept == pytest.approx(max(known))
    assert min(known) < max(known), "there was something to choose"


def test_truncated_answers_are_learnt_from(model: LinearModel) -> None:
    images = model.images(64)
    answers = model(images)
    answers[answers < answers.max(axis=1, keepdims=True)] = 0
    recipe = CloneRecipe(architecture="cnn-small", epochs=1)
    train_clone(images, answers, classes=5, recipe=recipe, seed=0)


def test_a_pool_of_one_colour_does_not_divide_by_zero() -> None:
    images = np.full((32, 3, 8, 8), 9, dtype=np.uint8)
    answers = np.full((32, 4), 0.25, dtype=np.float32)
    recipe = CloneRecipe(architecture="cnn-small", epochs=1)
    clone = train_clone(images, answers, classes=4, recipe=recipe, seed=0)
    assert np.isfinite(predict(clone, images)).all()


def test_what_cannot_be_trained_is_refused(model: LinearModel) -> None:
    images = model.images(8)
    with pytest.raises(ArchitectureError, match="alexnet"):
        train_clone(
            images, model(images), classes=5, recipe=CloneRecipe(architecture="alexnet"), seed=0
        )
    with pytest.raises(ValueError, match="holdout"):
        CloneRecipe(architecture="lenet", holdout=0.6)

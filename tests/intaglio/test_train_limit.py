"""``data.train_limit``: fewer images to train on, the same to be judged by."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from intaglio.recipe import Recipe, load_recipe
from intaglio.training_data import prepare
from models.errors import RecipeError
from models.training.data import TrainingData

MINIMAL = """
name: toy
architecture: {name: cnn-small}
data: {train: digits}
"""


def toy(tmp_path: Path, *overrides: str) -> Recipe:
    path = tmp_path / "toy.yaml"
    path.write_text(MINIMAL)
    return load_recipe(str(path), overrides)


def test_a_limit_takes_some_of_the_training_images_and_none_of_the_others(tmp_path: Path) -> None:
    whole = prepare(toy(tmp_path), data_root=None, needs_ood=False)
    few = prepare(toy(tmp_path, "data.train_limit=200"), data_root=None, needs_ood=False)
    assert len(few.training.images) == len(few.training.targets) == 200
    torch.testing.assert_close(few.validation[0], whole.validation[0])
    torch.testing.assert_close(few.test[0], whole.test[0])
    known = {(image.numpy().tobytes(), int(y)) for image, y in _pairs(whole.training)}
    assert {(image.numpy().tobytes(), int(y)) for image, y in _pairs(few.training)} <= known
    assert set(few.training.targets.tolist()) == set(range(10))
    ample = prepare(toy(tmp_path, "data.train_limit=100000"), data_root=None, needs_ood=False)
    torch.testing.assert_close(ample.training.images, whole.training.images)


def _pairs(training: TrainingData) -> zip[tuple[torch.Tensor, torch.Tensor]]:
    return zip(training.images, training.targets, strict=True)


def test_a_limit_below_the_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"data\.train_limit: 9 training images are fewer than"):
        prepare(toy(tmp_path, "data.train_limit=9"), data_root=None, needs_ood=False)
    with pytest.raises(RecipeError, match=r"data\.train_limit: .*greater than or equal to 2"):
        toy(tmp_path, "data.train_limit=1")

"""``data.train_limit``: fewer images to train on, the same to be judged by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from intaglio.errors import RecipeError
from intaglio.outlook import outlook_of
from intaglio.recipe import Recipe, load_recipe
from intaglio.training_data import prepare
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
    with pytest.raises(RecipeError, match=r"data\.train_limit: 12 leaves no training image of"):
        prepare(toy(tmp_path, "data.train_limit=12"), data_root=None, needs_ood=False)
    with pytest.raises(RecipeError, match=r"data\.train_limit: .*greater than or equal to 2"):
        toy(tmp_path, "data.train_limit=1")


def test_a_stray_label_is_named(tmp_path: Path) -> None:
    """Without class names the largest training label says how many classes there are."""
    labels = np.arange(400) % 4
    labels[7] = 999
    images = np.zeros((400, 8, 8), np.uint8)
    np.savez(tmp_path / "slip.npz", x_train=images, y_train=labels)
    slip = toy(tmp_path, f"data.train=npz:{tmp_path / 'slip.npz'}")
    sentence = r"data\.train: slip has a training label 999 but none of 4: labels must be 0 to K"
    with pytest.raises(RecipeError, match=sentence):
        prepare(slip, data_root=None, needs_ood=False)
    with pytest.raises(RecipeError, match=sentence):
        outlook_of(slip, data_root=None)


def test_a_named_class_without_images_is_named(tmp_path: Path) -> None:
    labels, images = np.arange(40) % 2, np.zeros((40, 8, 8), np.uint8)
    names = np.array(["cat", "dog", "emu"])
    np.savez(tmp_path / "two.npz", x_train=images, y_train=labels, class_names=names)
    with pytest.raises(RecipeError, match=r"data\.train: two has no training image of class 'emu'"):
        prepare(
            toy(tmp_path, f"data.train=npz:{tmp_path / 'two.npz'}"), data_root=None, needs_ood=False
        )


def test_a_class_that_is_all_held_out_is_the_share_s_doing(tmp_path: Path) -> None:
    labels, images = np.arange(40) % 2, np.zeros((40, 8, 8), np.uint8)
    labels[0] = 2
    np.savez(tmp_path / "rare.npz", x_train=images, y_train=labels)
    share = r"data\.validation_fraction: 0\.9 leaves no training image of class '2' of npz:"
    with pytest.raises(RecipeError, match=share):
        prepare(
            toy(
                tmp_path, f"data.train=npz:{tmp_path / 'rare.npz'}", "data.validation_fraction=0.9"
            ),
            data_root=None,
            needs_ood=False,
        )

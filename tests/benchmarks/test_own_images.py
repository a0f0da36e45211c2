"""Who has the victim's own data has what it was trained on, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.own_images import own_images, write_own_images
from intaglio.recipe import load_recipe
from intaglio.training_data import prepare
from models.datasets import load

PLAN = ("data.train_limit=60",)


def test_they_are_those_that_every_objective_trains_on(tmp_path: Path) -> None:
    own = own_images("digits-plain", PLAN, None)
    trained = prepare(load_recipe("digits-nasty", PLAN), data_root=None, needs_ood=False).training
    assert np.array_equal(own.train_images, trained.images.numpy())
    assert np.array_equal(own.train_labels, trained.targets.numpy())
    assert trained.validation_images is not None
    validated = {image.tobytes() for image in trained.validation_images.numpy()}
    assert not validated & {image.tobytes() for image in own.train_images}
    write_own_images(own, tmp_path / "new" / "own.npz")
    read = load(f"npz:{tmp_path / 'new' / 'own.npz'}")
    assert np.array_equal(read.train_images, own.train_images)
    assert read.labels == own.labels
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["own.npz"]

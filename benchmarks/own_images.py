"""The images that a victim was trained on, for the attacker who has the victim's own data.

A recipe may train on fewer images than its dataset has, and then an attacker who draws from all of
them owns mostly others. Teachers that are trained to teach nothing are so on their own images.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from intaglio.recipe import load_recipe
from intaglio.training_data import prepare
from models.datasets import Dataset, load

__all__ = ["own_images", "write_own_images"]


@cache
def own_images(source: str, changes: Sequence[str], data_root: Path | None) -> Dataset:
    """What the recipe ``source`` with ``changes`` trains on, and the whole test set.

    Args:
        source: a shipped recipe of plain training; every objective trains on the same images.
        changes: as ``--set`` takes them.
        data_root: where datasets lie.
    """
    recipe = load_recipe(source, tuple(changes))
    whole = load(recipe.data.train, root=data_root, split_seed=recipe.data.split_seed)
    own = prepare(recipe, data_root=data_root, needs_ood=False).training
    return Dataset(
        name=whole.name,
        train_images=own.images.numpy(),
        train_labels=own.targets.numpy(),
        test_images=whole.test_images,
        test_labels=whole.test_labels,
        labels=whole.labels,
    )


def write_own_images(own: Dataset, path: Path) -> None:
    """As ``npz:PATH``, for commands; does nothing where ``path`` is there."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = path.with_suffix(".new.npz")
    np.savez(
        kept,
        x_train=own.train_images,
        y_train=own.train_labels,
        x_test=own.test_images,
        y_test=own.test_labels,
        class_names=np.array(own.labels),
    )
    kept.rename(path)

"""What can be said of a recipe's data before it is there, and what the recipe would cost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from intaglio.costs import flops_of_training
from intaglio.recipe import Recipe
from intaglio.training_data import check_labels, input_of, sizes
from models import datasets
from models.datasets.catalogue import is_bundled, is_downloadable, local_file
from models.datasets.declared import Declared, declared
from models.errors import RecipeError

__all__ = ["Expected", "Outlook", "availability", "expected", "outlook_of"]


class Expected(Protocol):
    """``expected``, or one that remembers its answers: of data that lies here all is read."""

    def __call__(self, key: str, spec: str, *, data_root: Path | None, split_seed: int) -> Declared:
        """What is known of the dataset ``spec``."""
        ...


@dataclass(frozen=True, slots=True)
class Outlook:
    """A recipe, seen from before its training.

    Attributes:
        shape: ``(C, H, W)`` of what the model is shown.
        classes: K.
        images: to train on, those held out not counted.
        flops: an estimate of the whole training; None for a user's own architecture or objective.
    """

    shape: tuple[int, int, int]
    classes: int
    images: int
    flops: float | None


def expected(key: str, spec: str, *, data_root: Path | None, split_seed: int) -> Declared:
    """Shape, classes and size of a dataset: its own where it lies there, else what is known of it.

    Nothing is downloaded.

    Args:
        key: of the recipe, for the message.
        spec: the dataset, as in a recipe.
        data_root: where datasets are looked for.
        split_seed: of the recipe.

    Raises:
        DatasetError: it lies there and is malformed.
        RecipeError: it is not there, and nothing is known of it; or a class is missing from what
            is to be trained on.
    """
    known = declared(spec)
    if known is not None and local_file(spec, data_root) is None:
        return known
    if ":" not in spec and local_file(spec, data_root) is None:
        raise RecipeError(
            f"{key}: {spec} is not here, and nothing is known of it: name a place where "
            f"{spec}.npz lies with --data-root, or say npz:PATH or folder:PATH"
        )
    found = datasets.load(spec, root=data_root, split_seed=split_seed)
    if key == "data.train":
        check_labels(found)
    return Declared(found.shape, found.classes, len(found.train_images))


def availability(spec: str, data_root: Path | None) -> str:
    """How to come by a dataset: ``here``, ``bundled``, ``download`` or ``bring your own``."""
    if ":" in spec or local_file(spec, data_root) is not None:
        return "here"
    if is_bundled(spec):
        return "bundled"
    return "download" if is_downloadable(spec) else "bring your own"


def outlook_of(recipe: Recipe, *, data_root: Path | None, look: Expected = expected) -> Outlook:
    """What training ``recipe`` would be.

    Args:
        recipe: the recipe.
        data_root: where datasets are looked for; nothing is downloaded.
        look: how the training set is looked at; ``functools.cache(expected)`` looks once, as long
            as one listing takes.

    Raises:
        DatasetError: its data lies there and is malformed.
        RecipeError: nothing is known of its data, or it is too little to be split.
    """
    data = recipe.data
    train = look("data.train", data.train, data_root=data_root, split_seed=data.split_seed)
    spec = input_of(recipe, train.shape)
    _, images = sizes(data, train.train, train.classes)
    flops = flops_of_training(recipe, spec.shape, train.classes, images)
    return Outlook(spec.shape, train.classes, images, flops)

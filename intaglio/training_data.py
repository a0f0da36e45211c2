"""From the names in a recipe to tensors, with everything refused that would waste a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from intaglio.errors import RecipeError
from intaglio.recipe import Data, Recipe
from models import datasets
from models.card import InputSpec
from models.datasets import Dataset
from models.preprocessing import fit_arrays
from models.training.data import TrainingData
from models.training.order import generator

__all__ = ["Prepared", "check_labels", "check_strangers", "input_of", "prepare", "sizes"]


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """What a recipe trains and is measured on.

    Attributes:
        input: what the model is shown; every image below is that.
        labels: K class names.
        training: training and validation images, and strangers where the recipe names some.
        validation: images ``(M, C, H, W)`` and labels ``(M,)``: those of ``training``.
        test: the same of the test set.
        ood_shape: ``(C, H, W)`` that strangers had before they were fitted to ``input``; None where
            there are none, or nothing had to be done.
    """

    input: InputSpec
    labels: tuple[str, ...]
    training: TrainingData
    validation: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    ood_shape: tuple[int, int, int] | None = None


def check_strangers(recipe: Recipe, *, needs_ood: bool) -> None:
    """Refuse out-of-distribution images that are missing, of no use, or not strange.

    Raises:
        RecipeError: names the key.
    """
    choice = recipe.data
    if needs_ood and choice.ood is None:
        raise RecipeError(
            f"data.ood: the objective {recipe.objective.kind} needs a dataset of "
            "out-of-distribution images"
        )
    if choice.ood is not None and not needs_ood:
        raise RecipeError(
            f"data.ood: the objective {recipe.objective.kind} has no use for "
            "out-of-distribution images"
        )
    if choice.ood == choice.train:
        raise RecipeError(f"data.ood: {choice.ood} is what the model is trained on (data.train)")


def check_labels(dataset: Dataset) -> None:
    """Refuse a training set in which some class does not occur, as where one label is a slip.

    Raises:
        RecipeError: names the class, and the label beyond it where there is one.
    """
    present = np.unique(dataset.train_labels)
    absent = np.setdiff1d(np.arange(dataset.classes), present)
    if not len(absent):
        return
    missing, beyond = int(absent[0]), present[present > absent[0]]
    if len(beyond):
        raise RecipeError(
            f"data.train: {dataset.name} has a training label {beyond[0]} but none of {missing}: "
            "labels must be 0 to K - 1, and each must occur"
        )
    raise RecipeError(
        f"data.train: {dataset.name} has no training image of class {dataset.labels[missing]!r}"
    )


def input_of(recipe: Recipe, shape: tuple[int, int, int]) -> InputSpec:
    """What the model of ``recipe`` is shown, given the ``(C, H, W)`` of its training images."""
    channels, height, width = shape
    return recipe.input or InputSpec(channels=3 if channels == 3 else 1, height=height, width=width)


def sizes(choice: Data, available: int, classes: int) -> tuple[int, int]:
    """How many of ``available`` images are held out, and how many of the others are trained on.

    Raises:
        RecipeError: fewer than there are classes; names the key.
    """
    held_out = round(available * choice.validation_fraction)
    kept = available - held_out
    if choice.train_limit is not None:
        if choice.train_limit < classes:
            raise RecipeError(
                f"data.train_limit: {choice.train_limit} training images are fewer than the "
                f"{classes} classes"
            )
        kept = min(kept, choice.train_limit)
    if min(held_out, kept) < classes:
        raise RecipeError(
            f"data.validation_fraction: {choice.validation_fraction:g} of {available} images "
            f"leaves {kept} to train and {held_out} to validate on, fewer than the {classes} "
            "classes"
        )
    return held_out, kept


def prepare(recipe: Recipe, *, data_root: Path | None, needs_ood: bool) -> Prepared:
    """Load, convert and split the data of ``recipe``.

    Which images are held out depends on the dataset, ``validation_fraction`` and ``split_seed``
    only, so that recipes that agree on them are measured on the same images.

    Raises:
        DatasetError: a dataset is not there or malformed.
        RecipeError: it does not suit the recipe; names the key.
    """
    check_strangers(recipe, needs_ood=needs_ood)
    choice = recipe.data
    dataset = datasets.load(choice.train, root=data_root, split_seed=choice.split_seed)
    check_labels(dataset)
    spec = input_of(recipe, dataset.shape)
    ood, ood_shape = None, None
    if choice.ood is not None:
        strangers = datasets.load(choice.ood, root=data_root, split_seed=choice.split_seed)
        ood = _images(strangers.train_images, spec)
        ood_shape = None if strangers.shape == spec.shape else strangers.shape

    images, labels = _images(dataset.train_images, spec), torch.from_numpy(dataset.train_labels)
    classes = len(dataset.labels)
    if classes < 2:
        raise RecipeError(f"data.train: {choice.train} has {classes} class, at least 2 are needed")
    count, limit = sizes(choice, len(images), classes)
    order = torch.randperm(len(images), generator=generator(choice.split_seed, "validation"))
    held_out, kept = order[:count].sort().values, order[count:][:limit].sort().values
    absent = sorted(set(range(classes)) - set(labels[kept].tolist()))
    if absent:
        spared = absent[0] in labels[order[count:]].tolist()
        key = "train_limit" if spared else "validation_fraction"
        raise RecipeError(
            f"data.{key}: {getattr(choice, key):g} leaves no training image of class "
            f"{dataset.labels[absent[0]]!r} of {choice.train}"
        )
    validation = (images[held_out], labels[held_out])
    return Prepared(
        input=spec,
        labels=tuple(dataset.labels),
        training=TrainingData(images[kept], labels[kept], *validation, ood=ood),
        validation=validation,
        test=(_images(dataset.test_images, spec), torch.from_numpy(dataset.test_labels)),
        ood_shape=ood_shape,
    )


def _images(images: NDArray[np.uint8], spec: InputSpec) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(fit_arrays(images, spec)))

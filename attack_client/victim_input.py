"""Datasets as a victim is shown them: the surrogate pool, and the victim's own task."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attack_client.contract import Pool
from attack_client.errors import PoolError
from models.card import InputSpec
from models.datasets import Dataset
from models.preprocessing import fit_arrays

__all__ = ["TestSet", "as_pool", "input_spec"]


def input_spec(shape: tuple[int, int, int]) -> InputSpec:
    """How images become ``shape`` ``(C, H, W)`` where a victim says no more than that."""
    channels, height, width = shape
    return InputSpec.model_validate({"channels": channels, "height": height, "width": width})


def as_pool(dataset: Dataset, shape: tuple[int, int, int]) -> Pool:
    """The training images of ``dataset`` as a victim of input ``(C, H, W)`` is shown them."""
    return Pool(
        name=dataset.name,
        images=fit_arrays(dataset.train_images, input_spec(shape)),
        labels=dataset.train_labels,
    )


@dataclass(frozen=True, slots=True, eq=False)
class TestSet:
    """Images of the victim's own task, as the victim is shown them.

    Attributes:
        name: dataset name.
        images: ``(N, C, H, W)`` uint8.
        labels: ``(N,)`` int64, in the order of the victim's probabilities.
        classes: number of classes K.
    """

    __test__ = False  # not a test, whatever pytest thinks of the name

    name: str
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: int

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        *,
        shape: tuple[int, int, int],
        classes: int,
        spec: InputSpec | None = None,
    ) -> TestSet:
        """The test split of ``dataset`` for a victim of that input shape and classes.

        Args:
            dataset: with a test split.
            shape: ``(C, H, W)`` of the victim's input.
            classes: number of its classes K.
            spec: how the victim's card says that images become its input, where a card is at
                hand.

        Raises:
            PoolError: there are no test images, or the victim has another number of classes.
            ValueError: ``spec`` is of another shape.
        """
        if not len(dataset.test_images):
            raise PoolError(f"dataset {dataset.name} has no test images")
        if len(dataset.labels) != classes:
            raise PoolError(
                f"test set {dataset.name} has {len(dataset.labels)} classes, "
                f"the victim answers with {classes}"
            )
        if spec is not None and spec.shape != shape:
            raise ValueError(f"spec is of shape {spec.shape}, the victim's input of {shape}")
        return cls(
            name=dataset.name,
            images=fit_arrays(dataset.test_images, spec or input_spec(shape)),
            labels=dataset.test_labels,
            classes=classes,
        )

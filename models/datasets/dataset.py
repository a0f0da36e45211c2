"""What every source of images delivers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.errors import DatasetError

__all__ = ["Dataset"]


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Labelled images, split into what is trained on and what is tested on.

    Attributes:
        name: what it was loaded as.
        train_images: ``(N, C, H, W)`` uint8; C is 1 or 3.
        train_labels: ``(N,)`` int64 in ``[0, K)``.
        test_images: ``(M, C, H, W)`` uint8; M is 0 for a pool that has no test split.
        test_labels: ``(M,)`` int64 in ``[0, K)``.
        labels: K distinct class names.

    Raises:
        DatasetError: shapes, types, lengths or labels do not fit together.
    """

    name: str
    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        for split, images, labels in (
            ("train", self.train_images, self.train_labels),
            ("test", self.test_images, self.test_labels),
        ):
            self._check_split(split, images, labels)
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            raise DatasetError(
                f"{self.name}: train images are {_size(self.train_images)} but test images are "
                f"{_size(self.test_images)}"
            )
        if len(set(self.labels)) != len(self.labels):
            raise DatasetError(f"{self.name}: class names must be distinct")

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(C, H, W)`` of every image."""
        _, channels, height, width = self.train_images.shape
        return (channels, height, width)

    @property
    def classes(self) -> int:
        """Number of classes K."""
        return len(self.labels)

    def _check_split(
        self, split: str, images: NDArray[np.uint8], labels: NDArray[np.int64]
    ) -> None:
        if images.dtype != np.uint8:
            raise DatasetError(f"{self.name}: {split} images must be uint8, not {images.dtype}")
        if images.ndim != 4 or images.shape[1] not in {1, 3} or 0 in images.shape[1:]:
            raise DatasetError(
                f"{self.name}: {split} images must have shape (N, 1 or 3, H, W), not "
                f"{tuple(images.shape)}"
            )
        if labels.dtype != np.int64 or labels.shape != images.shape[:1]:
            raise DatasetError(
                f"{self.name}: there are {len(images)} {split} images but {split} labels are "
                f"{labels.dtype} of shape {tuple(labels.shape)}; one int64 each is needed"
            )
        if len(labels) == 0:
            if split == "train":
                raise DatasetError(f"{self.name}: there are no train images")
            return
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= len(self.labels):
            raise DatasetError(
                f"{self.name}: {split} labels must lie in [0, {len(self.labels)}), the number of "
                f"classes, but go from {low} to {high}"
            )


def _size(images: NDArray[np.uint8]) -> str:
    return "x".join(map(str, images.shape[1:]))

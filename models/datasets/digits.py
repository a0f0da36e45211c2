"""Handwritten digits that need no download: scikit-learn's, resized to 28x28."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.datasets.dataset import Dataset
from models.errors import DatasetNotFound

__all__ = ["digits"]

TEST = 397
SIDE = 28


def digits(*, split_seed: int = 0) -> Dataset:
    """1,797 digits of 43 writers (UCI ``optdigits`` test part), 1x28x28, white on black.

    8x8 images of 17 levels, scaled to 8 bits and enlarged bilinearly. 1,400 are for training,
    397 for testing, stratified by class.

    Args:
        split_seed: draws the split.

    Raises:
        DatasetNotFound: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise DatasetNotFound(
            "the digits come with scikit-learn, which is not installed: pip install intaglio[data]"
        ) from error
    source = load_digits()
    levels = (np.asarray(source.images) * 255 / 16).round().astype(np.uint8)
    images = np.stack([_enlarge(level) for level in levels])[:, np.newaxis]
    labels = np.asarray(source.target, dtype=np.int64)
    train, test = train_test_split(
        np.arange(len(labels)), test_size=TEST, stratify=labels, random_state=split_seed
    )
    return Dataset(
        name="digits",
        train_images=images[train],
        train_labels=labels[train],
        test_images=images[test],
        test_labels=labels[test],
        labels=tuple(map(str, range(10))),
    )


def _enlarge(level: NDArray[np.uint8]) -> NDArray[np.uint8]:
    image = Image.fromarray(level).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return np.asarray(image, dtype=np.uint8)

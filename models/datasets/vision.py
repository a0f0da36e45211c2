"""The field's standard sets, through torchvision: found under the data root or downloaded."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from numpy.typing import NDArray

from models.datasets.class_names import class_names
from models.datasets.dataset import Dataset
from models.errors import DatasetNotFound

__all__ = ["VISION", "load_vision"]


@dataclass(frozen=True, slots=True)
class Source:
    """How torchvision has a set.

    Attributes:
        kind: class in ``torchvision.datasets``.
        options: keyword arguments of both splits.
        splits: keyword arguments of the training and of the test split.
        first_label: what the lowest label is; subtracted.
        transposed: stored columns first; EMNIST is, which is undone so that its characters
            stand upright as MNIST's do.
        needs: a package that torchvision's reader needs besides.
    """

    kind: str
    options: Mapping[str, Any]
    splits: tuple[Mapping[str, Any], Mapping[str, Any]] = ({"train": True}, {"train": False})
    first_label: int = 0
    transposed: bool = False


VISION: Mapping[str, Source] = {
    "cifar10": Source("CIFAR10", {}),
    "cifar100": Source("CIFAR100", {}),
    "emnist-balanced": Source("EMNIST", {"split": "balanced"}, transposed=True),
    "emnist-digits": Source("EMNIST", {"split": "digits"}, transposed=True),
    "emnist-letters": Source("EMNIST", {"split": "letters"}, first_label=1, transposed=True),
    "fashion_mnist": Source("FashionMNIST", {}),
    "kmnist": Source("KMNIST", {}),
    "mnist": Source("MNIST", {}),
    "svhn": Source("SVHN", {}, splits=({"split": "train"}, {"split": "test"})),
}


def load_vision(name: str, root: Path | None) -> Dataset:
    """Load the set ``name`` of ``VISION``.

    Torchvision verifies the checksum of what it downloads, and of the CIFAR batches each time
    before it reads them.

    Args:
        name: of the set.
        root: where to look, and to download to; by default the user's cache directory.

    Raises:
        DatasetNotFound: it is not there and cannot be downloaded.
        DatasetError: it is not what it should be.
    """
    from torchvision import datasets

    source = VISION[name]
    where = root if root is not None else Path(platformdirs.user_cache_dir("intaglio")) / "data"
    kind: Callable[..., Any] = getattr(datasets, source.kind)
    images, labels = [], []
    for split in source.splits:
        part = _open(name, kind, where, {**source.options, **split})
        images.append(_images(part.data, transposed=source.transposed))
        targets = part.labels if hasattr(part, "labels") else part.targets
        labels.append(np.asarray(targets, dtype=np.int64) - source.first_label)
    known = class_names(name, int(labels[0].max()) + 1)
    own = tuple(getattr(part, "classes", ()))
    return Dataset(
        name=name,
        train_images=images[0],
        train_labels=labels[0],
        test_images=images[1],
        test_labels=labels[1],
        labels=own if name == "cifar100" and len(own) == len(known) else known,
    )


def _open(name: str, kind: Callable[..., Any], where: Path, options: Mapping[str, Any]) -> Any:
    try:
        return kind(str(where), download=False, **options)
    except (RuntimeError, OSError):
        # Not there, or not whole: torchvision says both the same way.
        try:
            where.mkdir(parents=True, exist_ok=True)
            return kind(str(where), download=True, **options)
        except (RuntimeError, OSError, zipfile.BadZipFile) as error:
            raise DatasetNotFound(
                f"{name} is not under {where}, and it could not be downloaded: put "
                f"torchvision's files or a {name}.npz (x_train, y_train, x_test, y_test) there, "
                "and name the place with --data-root or INTAGLIO_DATA_ROOT"
            ) from error


def _images(data: Any, *, transposed: bool) -> NDArray[np.uint8]:
    pixels = np.asarray(data)
    if pixels.ndim == 3:
        pixels = pixels[:, np.newaxis]
    elif pixels.shape[-1] == 3:
        pixels = pixels.transpose(0, 3, 1, 2)
    if transposed:
        pixels = pixels.swapaxes(2, 3)
    return np.ascontiguousarray(pixels, dtype=np.uint8)

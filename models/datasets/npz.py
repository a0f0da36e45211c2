"""Datasets in one NumPy archive: ``x_train, y_train, x_test, y_test`` and maybe ``class_names``.

A surrogate pool or an out-of-distribution set may come without its test split.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.datasets.class_names import class_names
from models.datasets.dataset import Dataset
from models.errors import DatasetError, DatasetNotFound

__all__ = ["LARGEST_ARRAY", "read_npz"]

LARGEST_ARRAY = 16 * 2**30
"""Bytes that one array may unpack to; an archive that claims more is refused unread."""

TRAIN = ("x_train", "y_train")
TEST = ("x_test", "y_test")


def read_npz(path: Path, *, name: str) -> Dataset:
    """Read ``path``; nothing in it is unpickled.

    Images are uint8 of shape (N, H, W), (N, H, W, C) or (N, C, H, W) with C 1 or 3; labels are
    integers of shape (N,) or (N, 1). ``class_names`` is an array of K strings.

    Raises:
        DatasetNotFound: there is no such file.
        DatasetError: the archive or an array in it is not as described.
    """
    if not path.is_file():
        raise DatasetNotFound(
            f"there is no file {path}; save one with numpy.savez_compressed(path, x_train=..., "
            "y_train=..., x_test=..., y_test=...)"
        )
    try:
        _check_members(path)
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in (*TRAIN, *TEST, "class_names") if key in archive}
    except (OSError, ValueError, EOFError, KeyError, MemoryError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path} is not a readable npz archive: {error}") from error
    tested = any(key in arrays for key in TEST)
    for key in (*TRAIN, *TEST) if tested else TRAIN:
        if key not in arrays:
            raise DatasetError(
                f"{path} lacks the array {key}: it needs {', '.join((*TRAIN, *TEST))}, the last "
                "two not where the set is only a pool"
            )
    train_images = _images(arrays["x_train"], f"{path}: x_train")
    train_labels = _labels(arrays["y_train"], f"{path}: y_train")
    return Dataset(
        name=name,
        train_images=train_images,
        train_labels=train_labels,
        test_images=_images(arrays["x_test"], f"{path}: x_test") if tested else train_images[:0],
        test_labels=_labels(arrays["y_test"], f"{path}: y_test") if tested else train_labels[:0],
        labels=_names(arrays.get("class_names"), train_labels, name, path),
    )


def _check_members(path: Path) -> None:
    # A few kilobytes can claim terabytes, in the zip directory or in an array's header.
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.file_size > LARGEST_ARRAY:
                raise ValueError(f"{member.filename} unpacks to {member.file_size} bytes")
            with archive.open(member) as stream:
                version = np.lib.format.read_magic(stream)
                read_header = (
                    np.lib.format.read_array_header_1_0
                    if version == (1, 0)
                    else np.lib.format.read_array_header_2_0
                )
                shape, _, dtype = read_header(stream)
            if dtype.hasobject:
                raise ValueError(f"{member.filename} holds Python objects")
            claimed = int(np.prod(shape, dtype=object)) * dtype.itemsize
            if claimed > member.file_size:
                raise ValueError(f"{member.filename} is shorter than its header says")


def _images(array: NDArray[Any], what: str) -> NDArray[np.uint8]:
    if array.dtype != np.uint8:
        raise DatasetError(f"{what} must be uint8 pixels from 0 to 255, not {array.dtype}")
    if array.ndim == 3:
        return array[:, np.newaxis]
    if array.ndim == 4 and array.shape[3] in {1, 3}:
        return np.ascontiguousarray(array.transpose(0, 3, 1, 2))
    if array.ndim == 4 and array.shape[1] in {1, 3}:
        return array
    raise DatasetError(
        f"{what} must have shape (N, H, W), (N, H, W, 1 or 3) or (N, 1 or 3, H, W), not "
        f"{tuple(array.shape)}"
    )


def _labels(array: NDArray[Any], what: str) -> NDArray[np.int64]:
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.dtype.kind not in "iu" or array.ndim != 1 or len(array) == 0:
        raise DatasetError(
            f"{what} must be integers of shape (N,) or (N, 1), not {array.dtype} of shape "
            f"{tuple(array.shape)}"
        )
    return array.astype(np.int64)


def _names(
    given: NDArray[Any] | None, train_labels: NDArray[np.int64], name: str, path: Path
) -> tuple[str, ...]:
    if given is None:
        # What is only in the test set was never learnt: the training labels say what K is.
        return class_names(name, int(train_labels.max()) + 1)
    if given.dtype.kind != "U" or given.ndim != 1:
        raise DatasetError(f"{path}: class_names must be a one-dimensional array of strings")
    return tuple(map(str, given))

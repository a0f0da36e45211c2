"""Archives: every layout people use, and nothing that could run or fill the memory."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.datasets import load
from models.datasets.declared import declared
from models.errors import DatasetError


def archive(path: Path, **changes: Any) -> Path:
    arrays: dict[str, Any] = {
        "x_train": np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5),
        "y_train": np.array([0, 1, 2]),
        "x_test": np.zeros((2, 4, 5), dtype=np.uint8),
        "y_test": np.array([2, 0]),
    }
    arrays |= changes
    np.savez(path, **{key: array for key, array in arrays.items() if array is not None})
    return path


def test_layouts_mean_the_same(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, 8, 9), dtype=np.uint8)
    test = np.zeros((2, 3, 8, 9), dtype=np.uint8)
    first = load(f"npz:{archive(tmp_path / 'chw.npz', x_train=pixels, x_test=test)}")
    last = load(
        f"npz:{archive(tmp_path / 'hwc.npz', x_train=pixels.transpose(0, 2, 3, 1), x_test=test)}"
    )
    np.testing.assert_array_equal(first.train_images, pixels)
    np.testing.assert_array_equal(last.train_images, pixels)
    assert (first.name, last.name) == ("chw", "hwc")
    grey = load(f"npz:{archive(tmp_path / 'g.npz', y_train=np.array([[0], [1], [2]]))}")
    assert grey.shape == (1, 4, 5)
    assert grey.train_images[1, 0, 0, 1] == 21


def test_class_names_travel_along(tmp_path: Path) -> None:
    names = np.array(["cat", "dog", "eel", "fly"])
    assert load(f"npz:{archive(tmp_path / 'a.npz', class_names=names)}").labels[3] == "fly"


def test_a_pool_needs_no_test_split(tmp_path: Path) -> None:
    pool = load(f"npz:{archive(tmp_path / 'a.npz', x_test=None, y_test=None)}")
    assert (pool.test_images.shape, pool.test_labels.shape) == ((0, 1, 4, 5), (0,))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"y_test": None}, "lacks the array y_test"),
        ({"x_train": np.zeros((3, 4, 5), dtype=np.float32)}, "x_train must be uint8 pixels"),
        ({"x_train": np.zeros((3, 20), dtype=np.uint8)}, "x_train must have shape"),
        ({"x_train": np.zeros((3, 4, 5, 4), dtype=np.uint8)}, "x_train must have shape"),
        ({"y_train": np.array([0.0, 1.0, 2.0])}, "y_train must be integers"),
        ({"y_train": np.array([0, 1])}, "there are 3 train images"),
        ({"y_train": np.array([], dtype=np.int64)}, "y_train must be integers"),
        ({"y_test": np.array([3, 0])}, r"must lie in \[0, 3\)"),
        ({"y_train": np.array([-1, 1, 2])}, "from -1 to 2"),
        ({"class_names": np.array(["a", "b"])}, r"must lie in \[0, 2\)"),
        ({"class_names": np.array([1, 2, 3])}, "class_names must be"),
        ({"class_names": np.array(["a", "a", "b"])}, "distinct"),
    ],
)
def test_malformed_archives_get_a_sentence(
    tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(DatasetError, match=sentence):
        load(f"npz:{archive(tmp_path / 'a.npz', **changes)}")


class Trap:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.target),))


def test_pickled_objects_are_not_unpickled(tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    trap = np.array([Trap(sprung)], dtype=object)
    for key in ("y_train", "class_names"):
        with pytest.raises(DatasetError, match="holds Python objects"):
            load(f"npz:{archive(tmp_path / 'a.npz', **{key: trap})}")
    assert not sprung.exists()


def test_what_is_no_archive_gets_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    for data in (b"", b"PK\x03\x04 but no more", archive(path).read_bytes()[:-40]):
        path.write_bytes(data)
        with pytest.raises(DatasetError, match="is not a readable npz archive"):
            load(f"npz:{path}")


def test_a_small_file_cannot_claim_a_large_array(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.npz", x_train=None)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (10**12, 28, 28)}
    )
    with zipfile.ZipFile(path, "a") as members:
        members.writestr("x_train.npy", header.getvalue() + bytes(100))
    with pytest.raises(DatasetError, match=r"x_train\.npy is shorter than its header says"):
        load(f"npz:{path}")


@pytest.mark.parametrize(
    ("file", "wanted"), [("tinyimagenet", "tiny-imagenet"), ("tiny-imagenet", "tinyimagenet")]
)
def test_a_set_is_found_by_any_of_its_names(file: str, wanted: str, tmp_path: Path) -> None:
    images, labels = np.zeros((4, 64, 64, 3), np.uint8), np.arange(4)
    np.savez(tmp_path / f"{file}.npz", x_train=images, y_train=labels)
    found = load(wanted, root=tmp_path)
    assert (found.name, found.shape) == (wanted, (3, 64, 64))
    known = declared(wanted)
    assert known is not None
    assert known.classes == 200
    assert declared("nothing-of-the-kind") is None

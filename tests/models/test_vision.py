"""Torchvision's sets, from its own files on disk; nothing here touches a network."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.datasets import load, vision
from models.errors import DatasetNotFound


def write_idx(path: Path, array: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.tobytes())


def idx_images(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, 28, 28), dtype=np.uint8)


def test_mnist_is_read_from_the_files_torchvision_keeps(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    for part, count in (("train", 20), ("t10k", 10)):
        write_idx(raw / f"{part}-images-idx3-ubyte", idx_images(count))
        write_idx(raw / f"{part}-labels-idx1-ubyte", np.arange(count, dtype=np.uint8) % 10)
    mnist = load("mnist", root=tmp_path)
    np.testing.assert_array_equal(mnist.train_images[:, 0], idx_images(20))
    assert (len(mnist.test_images), mnist.labels) == (10, tuple("0123456789"))


def test_emnist_letters_stand_upright_and_count_from_zero(tmp_path: Path) -> None:
    raw = tmp_path / "EMNIST" / "raw"
    for part in ("train", "test"):
        name = f"emnist-letters-{part}"
        write_idx(raw / f"{name}-images-idx3-ubyte", idx_images(26))
        write_idx(raw / f"{name}-labels-idx1-ubyte", np.arange(1, 27, dtype=np.uint8))
    letters = load("emnist-letters", root=tmp_path)
    np.testing.assert_array_equal(letters.train_images[:, 0], idx_images(26).swapaxes(1, 2))
    assert letters.train_labels.tolist() == list(range(26))
    assert letters.labels[25] == "Z"


class Colourful:
    """What torchvision's CIFAR and SVHN classes look like from outside."""

    classes: tuple[str, ...] = ("apple", "bear")

    def __init__(self, root: str, *, download: bool, **split: Any) -> None:
        del root, download
        train = split.get("train", split.get("split") == "train")
        self.data = np.zeros((4 if train else 2, 8, 8, 3), dtype=np.uint8)
        self.data[..., 2] = 9
        self.targets = [0, 1] * (2 if train else 1)


def test_colours_come_first_and_names_along(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("torchvision.datasets.CIFAR100", Colourful)
    cifar = load("cifar100", root=tmp_path)
    assert cifar.shape == (3, 8, 8)
    assert (cifar.train_images[:, 2] == 9).all()
    assert cifar.labels == ("apple", "bear")


def test_what_cannot_be_downloaded_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tried: list[tuple[str, bool]] = []

    def offline(root: str, *, download: bool, **_: Any) -> None:
        tried.append((root, download))
        raise RuntimeError("no route to host" if download else "Dataset not found")

    monkeypatch.setattr("torchvision.datasets.KMNIST", offline)
    with pytest.raises(
        DatasetNotFound,
        match=rf"kmnist is not under {tmp_path}.*could not be downloaded.*kmnist\.npz",
    ):
        load("kmnist", root=tmp_path)
    assert tried == [(str(tmp_path), False), (str(tmp_path), True)]
    monkeypatch.delenv("INTAGLIO_DATA_ROOT", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(DatasetNotFound, match="cache/intaglio/data"):
        load("kmnist")


def test_every_set_exists_in_torchvision() -> None:
    from torchvision import datasets

    for source in vision.VISION.values():
        assert hasattr(datasets, source.kind)

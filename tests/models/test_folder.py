"""Folders of images: classes, splits, sizes, and sentences naming the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.datasets import load
from models.errors import DatasetError, DatasetNotFound


def paint(path: Path, level: int, size: tuple[int, int] = (6, 4), mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, level).convert(mode).save(path)


def test_folders_that_make_the_split(tmp_path: Path) -> None:
    paint(tmp_path / "train/dog/1.png", 10)
    paint(tmp_path / "train/cat/2.png", 20)
    paint(tmp_path / "train/cat/10.jpg", 30)
    paint(tmp_path / "test/dog/1.bmp", 40)
    (tmp_path / "train/cat/notes.txt").write_text("not an image")
    (tmp_path / "train/cat/.hidden.png").write_text("not an image")
    (tmp_path / "train/.cache").mkdir()
    animals = load(f"folder:{tmp_path}")
    assert animals.labels == ("cat", "dog")
    assert animals.shape == (1, 4, 6)
    assert animals.train_labels.tolist() == [0, 0, 1]
    assert animals.test_labels.tolist() == [1]
    assert animals.train_images[:, 0, 0, 0].tolist() == pytest.approx([30, 20, 10], abs=2)
    assert animals.test_images[0, 0, 0, 0] == 40


def test_folders_that_leave_the_split_to_a_seed(tmp_path: Path) -> None:
    for index in range(10):
        paint(tmp_path / "a" / f"{index}.png", index)
        paint(tmp_path / "b" / f"{index}.png", 100 + index, mode="RGB")
    first = load(f"folder:{tmp_path}", split_seed=1)
    assert first.shape == (3, 4, 6)
    assert np.bincount(first.test_labels).tolist() == [2, 2]
    assert np.bincount(first.train_labels).tolist() == [8, 8]
    again, other = (load(f"folder:{tmp_path}", split_seed=seed) for seed in (1, 2))
    np.testing.assert_array_equal(first.test_images, again.test_images)
    assert not np.array_equal(first.test_images, other.test_images)
    levels = np.concatenate([first.train_images, first.test_images])[:, 0, 0, 0]
    assert sorted(levels.tolist()) == [*range(10), *range(100, 110)]


def test_a_pool_needs_no_test_split_and_a_class_may_be_called_train(tmp_path: Path) -> None:
    paint(tmp_path / "pool/train/a/1.png", 10)
    assert load(f"folder:{tmp_path / 'pool'}").test_images.shape == (0, 1, 4, 6)
    for index in range(4):
        paint(tmp_path / "toys" / "train" / f"{index}.png", 10)
        paint(tmp_path / "toys" / "test" / f"{index}.png", 10)
    assert load(f"folder:{tmp_path / 'toys'}").labels == ("test", "train")


def test_sizes_and_channels_can_be_asked_for(tmp_path: Path) -> None:
    paint(tmp_path / "train/a/1.png", 10)
    paint(tmp_path / "train/b/1.png", 20, size=(8, 8))
    paint(tmp_path / "test/a/1.png", 30)
    with pytest.raises(DatasetError, match=r"1.png is 4x6 and .*1.png is 8x8: add \?size=HxW"):
        load(f"folder:{tmp_path}")
    assert load(f"folder:{tmp_path}?size=5x7").shape == (1, 5, 7)
    assert load(f"folder:{tmp_path}?size=5x7&channels=3").shape == (3, 5, 7)


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("size=28", "size must be HxW"),
        ("size=0x28", "size must be HxW"),
        ("channels=4", "channels must be 1 or 3"),
        ("fit=crop", "unknown option 'fit'"),
    ],
)
def test_options_that_are_wrong_get_a_sentence(tmp_path: Path, query: str, sentence: str) -> None:
    with pytest.raises(DatasetError, match=sentence):
        load(f"folder:{tmp_path}?{query}")


def test_files_and_classes_that_are_wrong_get_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFound, match="holds no images"):
        load(f"folder:{tmp_path}")
    paint(tmp_path / "train/a/1.png", 10)
    paint(tmp_path / "test/c/1.png", 10)
    with pytest.raises(DatasetError, match="the class 'c' of test is missing from train"):
        load(f"folder:{tmp_path}")
    (tmp_path / "test/c").rename(tmp_path / "test/a")
    broken = tmp_path / "train/a/2.png"
    broken.write_text("not an image")
    with pytest.raises(DatasetError, match=r"train/a/2.png is not a readable image"):
        load(f"folder:{tmp_path}")
    noise = np.random.default_rng(0).integers(0, 256, (4, 600), dtype=np.uint8)
    Image.fromarray(noise).resize((6, 4)).save(broken)
    data = broken.read_bytes()
    broken.write_bytes(data[: len(data) // 2])
    with pytest.raises(DatasetError, match=r"2.png"):
        load(f"folder:{tmp_path}")
    lonely = tmp_path / "lonely"
    paint(lonely / "a/1.png", 10)
    with pytest.raises(DatasetError, match="class 'a' has one image only"):
        load(f"folder:{lonely}")

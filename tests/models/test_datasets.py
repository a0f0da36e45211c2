"""Datasets by name: what is bundled, where others are looked for, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models import datasets
from models.datasets import Dataset, glyphs
from models.datasets.class_names import class_names
from models.errors import DatasetError, DatasetNotFound


def images(count: int, *shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, *shape), dtype=np.uint8)


def labels(*values: int) -> NDArray[np.int64]:
    return np.array(values, dtype=np.int64)


def dataset(**changes: Any) -> Dataset:
    fields: dict[str, Any] = {
        "name": "toy",
        "train_images": images(3, 1, 4, 5),
        "train_labels": labels(0, 1, 0),
        "test_images": images(2, 1, 4, 5),
        "test_labels": labels(1, 0),
        "labels": ("a", "b"),
    }
    return Dataset(**(fields | changes))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"train_images": images(3, 1, 4, 5) / 255}, "train images must be uint8, not float64"),
        ({"train_images": images(3, 4, 5)}, r"shape \(N, 1 or 3, H, W\)"),
        ({"train_images": images(3, 2, 4, 5)}, r"not \(3, 2, 4, 5\)"),
        ({"train_images": images(0, 1, 4, 5), "train_labels": labels()}, "no train images"),
        ({"test_images": images(2, 1, 0, 5)}, r"not \(2, 1, 0, 5\)"),
        ({"train_labels": labels(0, 1)}, "there are 3 train images but train labels"),
        ({"train_labels": labels(0, 1, 0).astype(np.int32)}, "int32"),
        ({"test_labels": labels(0, 2)}, r"must lie in \[0, 2\).* from 0 to 2"),
        ({"test_labels": labels(0, -1)}, "from -1 to 0"),
        ({"test_images": images(2, 3, 4, 5)}, "train images are 1x4x5 but test images are 3x4x5"),
        ({"labels": ("a", "a")}, "distinct"),
    ],
)
def test_what_does_not_fit_together_gets_a_sentence(changes: dict[str, Any], sentence: str) -> None:
    assert dataset().shape == (1, 4, 5)
    with pytest.raises(DatasetError, match=f"^toy: .*{sentence}"):
        dataset(**changes)


def test_the_digits_are_split_by_class_and_seed() -> None:
    digits = datasets.load("digits")
    assert digits.shape == (1, 28, 28)
    assert (len(digits.train_images), len(digits.test_images)) == (1400, 397)
    assert digits.labels == tuple("0123456789")
    share = np.bincount(digits.test_labels) / np.bincount(
        np.concatenate([digits.train_labels, digits.test_labels])
    )
    np.testing.assert_allclose(share, 397 / 1797, atol=0.01)
    again, other = datasets.load("digits"), datasets.load("digits", split_seed=1)
    np.testing.assert_array_equal(digits.train_images, again.train_images)
    assert not np.array_equal(digits.train_labels, other.train_labels)
    # The same 1,797 images, whatever the split.
    for part in (digits, other):
        both = np.concatenate([part.train_images, part.test_images])
        assert both.sum(dtype=np.int64) == digits.train_images.sum(
            dtype=np.int64
        ) + digits.test_images.sum(dtype=np.int64)
    # White on black over the whole range; the brightest level 16 becomes 255.
    assert digits.train_images.max() == 255
    assert np.median(digits.train_images[:, :, :, [0, -1]]) == 0


@pytest.mark.parametrize("draw", [glyphs.letters, glyphs.symbols])
def test_glyphs_are_drawn_the_same_each_time(draw: Any) -> None:
    glyphs._pool.cache_clear()
    first = draw(train=200, test=50)
    glyphs._pool.cache_clear()
    second, other = draw(train=200, test=50), draw(train=200, test=50, seed=1)
    np.testing.assert_array_equal(first.train_images, second.train_images)
    np.testing.assert_array_equal(first.test_labels, second.test_labels)
    assert not np.array_equal(first.train_images, other.train_images)
    assert first.shape == (1, 28, 28)
    assert (len(first.train_images), len(first.test_images)) == (200, 50)


@pytest.mark.parametrize("draw", [glyphs.letters, glyphs.symbols])
def test_no_glyph_is_blank_and_none_is_drawn_twice(draw: Any) -> None:
    pool = draw(train=500, test=100)
    both = np.concatenate([pool.train_images, pool.test_images])
    assert both.reshape(600, -1).max(axis=1).min() > 60
    assert len({image.tobytes() for image in both}) == 600
    assert np.bincount(pool.train_labels, minlength=pool.classes).min() >= 500 // pool.classes
    # What a caller does to its copy is not seen by the next one.
    pool.train_images[:] = 0
    assert draw(train=500, test=100).train_images.any()


def test_pool_and_out_of_distribution_set_share_neither_font_nor_character() -> None:
    assert not set(glyphs.LETTERS) & set(glyphs.SYMBOLS)
    assert not set(glyphs.LETTER_FONTS) & set(glyphs.SYMBOL_FONTS)
    assert len(set(glyphs.SYMBOLS)) == len(glyphs.SYMBOLS)


def test_a_font_without_the_character_is_passed_over() -> None:
    have = {font: glyphs._characters_of(font) for font in glyphs.SYMBOL_FONTS}
    for character in glyphs.SYMBOLS:
        assert any(ord(character) in characters for characters in have.values()), character
    # One of them does lack some, or this test would show nothing.
    assert any(
        ord(character) not in characters
        for characters in have.values()
        for character in glyphs.SYMBOLS
    )


def test_size_and_stroke_resemble_the_digits() -> None:
    digits = datasets.load("digits").train_images / 255
    for pool in (glyphs.letters(train=500, test=10), glyphs.symbols(train=500, test=10)):
        drawn = pool.train_images / 255
        assert abs(drawn.mean() - digits.mean()) < 0.1
        assert abs(drawn.std() - digits.std()) < 0.1


def save(path: Path, **changes: Any) -> None:
    arrays: dict[str, Any] = {
        "x_train": images(3, 4, 5),
        "y_train": np.array([0, 1, 2], dtype=np.uint8),
        "x_test": images(2, 4, 5),
        "y_test": np.array([2, 0], dtype=np.uint8),
    }
    np.savez_compressed(path, **(arrays | changes))


def test_a_file_under_the_data_root_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "mine.npz")
    mine = datasets.load("mine", root=tmp_path)
    assert (mine.name, mine.shape, mine.labels) == ("mine", (1, 4, 5), ("0", "1", "2"))
    # It takes precedence over what is bundled.
    save(tmp_path / "digits.npz")
    assert datasets.load("digits", root=tmp_path).shape == (1, 4, 5)
    assert datasets.load("digits", root=tmp_path / "elsewhere").shape == (1, 28, 28)
    monkeypatch.setenv("INTAGLIO_DATA_ROOT", str(tmp_path))
    assert datasets.load("mine").shape == (1, 4, 5)


def test_what_is_nowhere_says_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DatasetNotFound, match=rf"no mine\.npz under the data root {tmp_path}"):
        datasets.load("mine", root=tmp_path)
    monkeypatch.delenv("INTAGLIO_DATA_ROOT", raising=False)
    with pytest.raises(DatasetNotFound, match=r"cifar10.*letters.*INTAGLIO_DATA_ROOT"):
        datasets.load("mine")
    save(tmp_path / "mine.npz")
    (tmp_path / "root").mkdir()
    for name in ("../mine", str(tmp_path / "mine"), "", "."):
        with pytest.raises(DatasetNotFound, match="there is no dataset"):
            datasets.load(name, root=tmp_path / "root")
    with pytest.raises(DatasetNotFound, match=r"there is no file .*absent\.npz; save one with"):
        datasets.load(f"npz:{tmp_path / 'absent.npz'}")
    with pytest.raises(DatasetNotFound, match=r"must hold train/CLASS"):
        datasets.load(f"folder:{tmp_path / 'absent'}")


def test_class_names_are_known_by_prefix_and_number() -> None:
    assert class_names("fashion_mnist", 10)[9] == "Ankle boot"
    assert class_names("kmnist_t10k", 10)[0] == "o"
    assert class_names("mnist", 3) == ("0", "1", "2")
    assert len(class_names("emnist-balanced", 47)) == 47


def test_images_can_be_wrapped_by_torch_without_a_warning() -> None:
    assert torch.from_numpy(glyphs.letters(train=60, test=2).train_images).dtype == torch.uint8

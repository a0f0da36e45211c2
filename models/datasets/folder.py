"""Datasets as folders of images: one folder per class."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qsl

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.card import InputSpec
from models.datasets.dataset import Dataset
from models.errors import DatasetError, DatasetNotFound, ImageError
from models.preprocessing import fit_image

__all__ = ["read_folder"]

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
TEST_SHARE = 0.2


def read_folder(target: str, *, split_seed: int = 0) -> Dataset:
    """Read ``PATH[?size=HxW&channels=1|3]``.

    ``PATH`` holds ``train/CLASS/*.png`` and ``test/CLASS/*.png``, or just ``CLASS/*.png``, of
    which a fifth of each class is then drawn for testing; ``train`` without ``test`` makes a pool
    that has no test split. Classes are sorted by name. Without
    ``size`` all images must have one size; with it they are stretched to it. Without
    ``channels`` the images are RGB unless all of them are grey.

    Args:
        target: path and options.
        split_seed: draws the split where the folders do not make it.

    Raises:
        DatasetNotFound: there is no such folder, or no image in it.
        DatasetError: an option is wrong, images differ in size, a file is no image, or test
            has a class that train has not.
    """
    location, _, query = target.partition("?")
    root = Path(location).expanduser()
    size, channels = _options(query, target)
    if not root.is_dir():
        raise DatasetNotFound(f"there is no folder {root}: it must hold train/CLASS/*.png")
    # A class may be called "train" too: it then holds images, not folders of images.
    train = _files(root / "train")
    split = bool(train)
    if not split:
        train = _files(root)
    if not train:
        raise DatasetNotFound(
            f"{root} holds no images: it must hold train/CLASS/*.png and test/CLASS/*.png, or "
            "CLASS/*.png"
        )
    labels = tuple(train)
    if split:
        test = _files(root / "test")
        unknown = sorted(test.keys() - train.keys())
        if unknown:
            raise DatasetError(f"{root}: the class {unknown[0]!r} of test is missing from train")
    else:
        train, test = _draw(train, split_seed)
    flat = [
        (file, labels.index(name)) for part in (train, test) for name in part for file in part[name]
    ]
    held = sum(map(len, train.values()))
    images = _read([file for file, _ in flat], size, channels)
    classes = np.array([label for _, label in flat], dtype=np.int64)
    return Dataset(
        name=root.name,
        train_images=images[:held],
        train_labels=classes[:held],
        test_images=images[held:],
        test_labels=classes[held:],
        labels=labels,
    )


def _options(query: str, target: str) -> tuple[tuple[int, int] | None, int | None]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    size = options.pop("size", None)
    channels = options.pop("channels", None)
    if options:
        raise DatasetError(
            f"folder:{target}: unknown option {next(iter(options))!r}: there are "
            "size=HxW and channels=1|3"
        )
    if channels not in {None, "1", "3"}:
        raise DatasetError(f"folder:{target}: channels must be 1 or 3, not {channels!r}")
    match = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", size or "1x1")
    if match is None:
        raise DatasetError(f"folder:{target}: size must be HxW, for instance 28x28, not {size!r}")
    parsed = (int(match[1]), int(match[2])) if size else None
    return parsed, int(channels) if channels else None


def _files(root: Path) -> dict[str, list[Path]]:
    if not root.is_dir():
        return {}
    found = {
        folder.name: sorted(
            file
            for file in folder.iterdir()
            if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
        )
        for folder in sorted(root.iterdir())
        if folder.is_dir() and not folder.name.startswith(".")
    }
    return {name: files for name, files in found.items() if files}


def _draw(
    files: dict[str, list[Path]], split_seed: int
) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    generator = np.random.default_rng(split_seed)
    train: dict[str, list[Path]] = {}
    test: dict[str, list[Path]] = {}
    for name, all_ in files.items():
        if len(all_) < 2:
            raise DatasetError(
                f"class {name!r} has one image only: to split, every class needs at least two"
            )
        order = generator.permutation(len(all_))
        count = max(1, round(TEST_SHARE * len(all_)))
        test[name] = [all_[index] for index in sorted(order[:count])]
        train[name] = [all_[index] for index in sorted(order[count:])]
    return train, test


def _read(
    files: list[Path], size: tuple[int, int] | None, channels: int | None
) -> NDArray[np.uint8]:
    grey = True
    sizes: dict[tuple[int, int], Path] = {}
    for file in files:
        try:
            with Image.open(file) as image:
                grey = grey and image.mode in {"1", "L", "LA", "I;16", "I;16B", "I;16L", "I"}
                sizes.setdefault((image.height, image.width), file)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise DatasetError(f"{file} is not a readable image: {error}") from error
    if size is None and len(sizes) > 1:
        (first, a), (second, b) = list(sizes.items())[:2]
        raise DatasetError(
            f"images must have one size, but {a} is {first[0]}x{first[1]} and {b} is "
            f"{second[0]}x{second[1]}: add ?size=HxW to resize them"
        )
    height, width = size or next(iter(sizes))
    spec = InputSpec(
        channels=1 if (channels or (1 if grey else 3)) == 1 else 3, height=height, width=width
    )
    images = np.empty((len(files), *spec.shape), dtype=np.uint8)
    for row, file in zip(images, files, strict=True):
        try:
            with Image.open(file) as image:
                row[...] = fit_image(image, spec)
        except ImageError as error:
            raise DatasetError(f"{file}: {error}") from error
    return images

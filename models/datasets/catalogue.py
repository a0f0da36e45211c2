"""Names of datasets, and the one way to load a dataset from a name."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from models.datasets.dataset import Dataset
from models.datasets.declared import also_called
from models.datasets.digits import digits
from models.datasets.folder import read_folder
from models.datasets.glyphs import letters, symbols
from models.datasets.npz import read_npz
from models.datasets.vision import VISION, load_vision
from models.errors import DatasetNotFound

__all__ = ["ROOT_VARIABLE", "is_bundled", "is_downloadable", "load", "local_file", "names"]

ROOT_VARIABLE = "INTAGLIO_DATA_ROOT"
"""Environment variable that names the data root where no argument does."""

BUNDLED: Mapping[str, Callable[[int], Dataset]] = {
    "digits": lambda split_seed: digits(split_seed=split_seed),
    "letters": lambda _: letters(),
    "symbols": lambda _: symbols(),
}

SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def names() -> tuple[str, ...]:
    """Names that ``load`` knows besides those of files under the data root, sorted."""
    return tuple(sorted(BUNDLED.keys() | VISION.keys()))


def is_bundled(name: str) -> bool:
    """Whether ``name`` comes with the dependencies."""
    return name in BUNDLED


def is_downloadable(name: str) -> bool:
    """Whether torchvision downloads ``name`` where it is not under the data root."""
    return name in VISION


def local_file(name: str, root: Path | None = None) -> Path | None:
    """The file ``NAME.npz`` under the data root, if it is there; any name of the set will do.

    Args:
        name: of a dataset.
        root: the data root; by default that of the environment.
    """
    root = root if root is not None else _root_from_environment()
    if root is None or not SAFE.fullmatch(name):
        return None
    paths = (root / f"{called}.npz" for called in (name, *also_called(name)))
    return next((path for path in paths if path.is_file()), None)


def load(spec: str, *, root: Path | None = None, split_seed: int = 0) -> Dataset:
    """Load a dataset.

    Looked for in this order: ``npz:PATH`` and ``folder:PATH[?size=HxW&channels=1|3]`` mean just
    that; a file ``NAME.npz`` under the data root; what is bundled (``digits``, ``letters``,
    ``symbols``); torchvision's (``mnist``, ``cifar10``, ...), read from the data root or
    downloaded into it, or into the user's cache where there is no data root.

    Args:
        spec: a name, ``npz:PATH`` or ``folder:PATH``.
        root: the data root; by default the environment variable ``INTAGLIO_DATA_ROOT``, if set.
        split_seed: draws the split of datasets that come without one (``digits`` and a folder
            of one level); the others ignore it.

    Raises:
        DatasetNotFound: says where it was looked for and how to get it.
        DatasetError: it was found but is malformed.
    """
    kind, colon, target = spec.partition(":")
    if colon and kind == "npz":
        return read_npz(Path(target).expanduser(), name=Path(target).stem)
    if colon and kind == "folder":
        return read_folder(target, split_seed=split_seed)
    root = root if root is not None else _root_from_environment()
    if SAFE.fullmatch(spec):
        if (file := local_file(spec, root)) is not None:
            return read_npz(file, name=spec)
        if spec in BUNDLED:
            return BUNDLED[spec](split_seed)
        if spec in VISION:
            return load_vision(spec, root)
    raise DatasetNotFound(_not_found(spec, root))


def _root_from_environment() -> Path | None:
    value = os.environ.get(ROOT_VARIABLE, "")
    return Path(value).expanduser() if value else None


def _not_found(spec: str, root: Path | None) -> str:
    looked = (
        f"there is no {spec}.npz under the data root {root}"
        if root is not None
        else f"no data root is set (--data-root or {ROOT_VARIABLE})"
    )
    return (
        f"there is no dataset {spec!r}: it is none of {', '.join(names())}, and {looked}; a set "
        f"of your own loads as npz:PATH or folder:PATH"
    )

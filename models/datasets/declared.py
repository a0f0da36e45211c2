"""What is known of the field's datasets without having them: shapes, classes, numbers of images.

Enough to see whether a recipe would run, and what it would cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["DECLARED", "Declared", "also_called", "declared"]


@dataclass(frozen=True, slots=True)
class Declared:
    """A dataset as its authors describe it.

    Attributes:
        shape: ``(C, H, W)`` of its images, or what they are usually brought to.
        classes: K.
        train: training images.
    """

    shape: tuple[int, int, int]
    classes: int
    train: int


DECLARED: Mapping[str, Declared] = {
    "cifar10": Declared((3, 32, 32), 10, 50_000),
    "cifar100": Declared((3, 32, 32), 100, 50_000),
    # Photographs of many sizes; the split is the authors' own.
    "cubs200": Declared((3, 64, 64), 200, 5_994),
    "digits": Declared((1, 28, 28), 10, 1_400),
    "emnist-balanced": Declared((1, 28, 28), 47, 112_800),
    "emnist-digits": Declared((1, 28, 28), 10, 240_000),
    "emnist-letters": Declared((1, 28, 28), 26, 124_800),
    "fashion_mnist": Declared((1, 28, 28), 10, 60_000),
    # 80 flowers of each kind; the authors' first split trains on half of them.
    "flowers17": Declared((3, 64, 64), 17, 680),
    "kmnist": Declared((1, 28, 28), 10, 60_000),
    "letters": Declared((1, 28, 28), 52, 12_000),
    "mnist": Declared((1, 28, 28), 10, 60_000),
    "svhn": Declared((3, 32, 32), 10, 73_257),
    "symbols": Declared((1, 28, 28), 74, 6_000),
    "tiny-imagenet": Declared((3, 64, 64), 200, 100_000),
}
"""By the name under which a recipe asks for them."""

NAMES: tuple[tuple[str, ...], ...] = (("tiny-imagenet", "tinyimagenet", "tiny_imagenet"),)
"""Names of one dataset, the one in ``DECLARED`` first: recipes write one, files carry another."""


def also_called(name: str) -> tuple[str, ...]:
    """The other names of the dataset ``name``."""
    return tuple(other for names in NAMES if name in names for other in names if other != name)


def declared(name: str) -> Declared | None:
    """What is known of the dataset ``name``, by whichever of its names."""
    known = (DECLARED.get(called) for called in (name, *also_called(name)))
    return next((one for one in known if one is not None), None)

"""Class names that people know, for sets that are often passed around without them."""

from __future__ import annotations

import string

__all__ = ["class_names"]

DIGITS = tuple(string.digits)

KNOWN: dict[str, tuple[str, ...]] = {
    "cifar10": (
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ),
    "emnist-balanced": (*string.digits, *string.ascii_uppercase, *"abdefghnqrt"),
    "emnist-digits": DIGITS,
    "emnist-letters": tuple(string.ascii_uppercase),
    "fashion_mnist": (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    "kmnist": ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    "mnist": DIGITS,
    "svhn": DIGITS,
}


def class_names(dataset: str, classes: int) -> tuple[str, ...]:
    """Names of ``classes`` classes of ``dataset``, ``"0"``, ``"1"``, ... where none are known.

    A variant is recognised by its prefix: ``kmnist_t10k`` has the classes of ``kmnist``.
    """
    for name, known in KNOWN.items():
        if dataset.startswith(name) and len(known) == classes:
            return known
    return tuple(map(str, range(classes)))

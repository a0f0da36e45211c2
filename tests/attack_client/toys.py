"""A toy task that a clone learns in a second: four grey squares, and a linear function of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from attack_client.contract import Pool
from attack_client.predictions import hard_labels

SHAPE = (1, 8, 8)
CLASSES = 4


def blocks(count: int, seed: int) -> NDArray[np.uint8]:
    """Images of four grey squares each, ``(count, 1, 8, 8)``."""
    levels = np.random.default_rng(seed).integers(0, 256, size=(count, 1, 2, 2))
    return np.kron(levels, np.ones((1, 1, 4, 4))).astype(np.uint8)


def answers(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """softmax of a linear function of the squares' mean levels, ``(count, 4)``."""
    levels = images[:, 0].reshape(len(images), 2, 4, 2, 4).mean(axis=(2, 4)) / 255 - 0.5
    logits = 6 * levels.reshape(len(images), 4) @ np.random.default_rng(7).normal(size=(4, 4))
    shares = np.exp(logits)
    return np.asarray(shares / shares.sum(axis=1, keepdims=True), dtype=np.float32)


def block_pool(count: int, seed: int = 1) -> Pool:
    """``blocks`` with the brightest of their squares as a label."""
    images = blocks(count, seed)
    labels = images[:, 0, ::4, ::4].reshape(count, 4).argmax(axis=1)
    return Pool(name="blocks", images=images, labels=labels.astype(np.int64))


def fidelity(said: NDArray[np.float32], images: NDArray[np.uint8]) -> float:
    """Share of ``images`` on which a clone that ``said`` this agrees with the victim."""
    return float((hard_labels(said) == hard_labels(answers(images))).mean())


def rises(curve: Sequence[float], *, slack: float = 0.02) -> bool:
    """Whether no point of ``curve`` lies below the one before it, but for ``slack``."""
    return all(later >= earlier - slack for earlier, later in itertools.pairwise(curve))

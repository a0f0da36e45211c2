"""How far apart one caller's queries are, and whether that looks natural."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import shapiro

__all__ = ["DistanceRecord", "Test", "reduced"]

SIDE = 32
"""Pixels a side beyond which pictures are averaged down before they are compared and kept."""

REPEAT = 0.05
"""Pixel units below which a query is the same one again: it tells a thief nothing new."""

EVERY = 10
"""Queries between two tests."""

ENTRIES = 10
"""Distances that a class needs before they count."""

LEAST = 100
"""Distances that a test needs more than."""


@dataclass(frozen=True, slots=True)
class Test:
    """One test of a caller's distances for normality.

    Attributes:
        statistic: the Shapiro-Wilk W in (0, 1]; natural queries are near 1.
        distances: how many it was computed from.
    """

    statistic: float
    distances: int


@dataclass(slots=True)
class _Accepted:
    """Mean and spread of the distances at which a class's set grew, and what they ask of the next.

    The threshold is PRADA's T_c: it never falls, so that a set does not fill with neighbours.
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    threshold: float = 0.0

    def add(self, distance: float) -> None:
        self.count += 1
        step = distance - self.mean
        self.mean += step / self.count
        self.squares += step * (distance - self.mean)
        spread = (self.squares / self.count) ** 0.5
        self.threshold = max(self.threshold, self.mean - spread)


class DistanceRecord:
    """PRADA's statistic for one caller and one model.

    "PRADA: Protecting Against DNN Model Stealing Attacks" (Juuti et al., EuroS&P 2019), section
    5, Algorithm 1: a query's distance is that to the nearest earlier query that was answered with
    the same class, of those in a set that grows only by queries farther away than usual. Distances
    between natural images are nearly normal; those of images that were made from one another are
    not.

    Ours: memory is bounded. The set holds the latest ``images`` pictures, of all classes together,
    and a test looks at the latest ``window`` distances. (A set that stopped growing could be filled
    with harmless pictures first.)

    Args:
        images: pictures in the set; each takes as many bytes as it has values.
        window: distances that are remembered.
    """

    def __init__(self, *, images: int, window: int) -> None:
        self._pictures: NDArray[np.uint8] | None = None
        self._labels = np.empty(0, dtype=np.int64)
        self._capacity = images
        self._kept = 0
        self._next = 0
        self._accepted: dict[int, _Accepted] = {}
        self._distances = np.zeros(window)
        self._classes = np.zeros(window, dtype=np.int64)
        self._recorded = 0
        self.queries = 0

    def add(self, pictures: NDArray[np.uint8], labels: NDArray[np.int64]) -> Test | None:
        """Take in queries ``(n, D)`` that were answered with ``labels`` ``(n,)``, in their order.

        Returns:
            The last test that fell due among them; None if none did, or too little is known.
        """
        before = self.queries
        self.queries += len(pictures)
        for label in np.unique(labels):
            self._add_class(pictures[labels == label], int(label))
        return self.test() if self.queries // EVERY > before // EVERY else None

    def test(self) -> Test | None:
        """W of the distances that are remembered; None if there are 100 or fewer to judge by."""
        held = min(self._recorded, len(self._distances))
        distances, classes = self._distances[:held], self._classes[:held]
        often = np.bincount(classes, minlength=1) >= ENTRIES if held else np.zeros(1, dtype=bool)
        pooled = distances[often[classes]]
        if len(pooled) <= LEAST:
            return None
        middle, spread = pooled.mean(), pooled.std()
        # Steps of one size, as a generator makes them, leave a spread of float noise.
        if spread < 1e-4 * middle:
            return Test(0.0, len(pooled))
        inner = pooled[np.abs(pooled - middle) <= 3 * spread]
        if len(inner) <= LEAST:
            return None
        return Test(float(shapiro(inner).statistic), len(inner))

    def _add_class(self, pictures: NDArray[np.uint8], label: int) -> None:
        new = pictures.astype(np.float32) / np.float32(255)
        nearest = np.full(len(new), np.inf)
        if self._kept:
            assert self._pictures is not None
            same = self._pictures[: self._kept][self._labels[: self._kept] == label]
            if len(same):
                nearest = _distances(new, same.astype(np.float32) / np.float32(255)).min(axis=1)
        among = _distances(new, new) if len(new) > 1 else np.zeros((1, 1))
        accepted = self._accepted.setdefault(label, _Accepted())
        taken: list[int] = []
        for index in range(len(new)):
            distance = min([float(nearest[index]), *among[index, taken].tolist()])
            if distance <= REPEAT:
                continue
            if np.isfinite(distance):
                self._record(distance, label)
                if distance <= accepted.threshold:
                    continue
                accepted.add(distance)
            else:
                # Or the second query would set the threshold for good, a set of two.
                accepted.add(0.0)
            taken.append(index)
            self._keep(pictures[index], label)

    def _record(self, distance: float, label: int) -> None:
        place = self._recorded % len(self._distances)
        self._distances[place], self._classes[place] = distance, label
        self._recorded += 1

    def _keep(self, picture: NDArray[np.uint8], label: int) -> None:
        if self._pictures is None:
            self._pictures = np.empty((0, len(picture)), dtype=np.uint8)
        if self._kept == len(self._pictures) < self._capacity:
            more = min(max(16, len(self._pictures)), self._capacity - len(self._pictures))
            room = np.empty((more, len(picture)), dtype=np.uint8)
            self._pictures = np.concatenate((self._pictures, room))
            self._labels = np.concatenate((self._labels, np.empty(more, dtype=np.int64)))
        self._pictures[self._next], self._labels[self._next] = picture, label
        self._kept = max(self._kept, self._next + 1)
        self._next = (self._next + 1) % self._capacity


def reduced(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pictures ``(n, C, H, W)`` as rows ``(n, D)``; large ones averaged down to 32 pixels a side.

    What they cost to compare and to keep is bounded by that, whatever the model is shown.
    """
    down, across = (-(-side // SIDE) for side in images.shape[2:])
    if max(down, across) > 1:
        rows, columns = images.shape[2] // down, images.shape[3] // across
        cut = images[:, :, : rows * down, : columns * across]
        blocks = cut.reshape(*cut.shape[:2], rows, down, columns, across)
        images = np.rint(blocks.mean(axis=(3, 5))).astype(np.uint8)
    return images.reshape(len(images), -1)


def _distances(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """L2 distances ``(n, m)`` between rows in pixel units; float32 errs by at most about 0.03."""
    squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)[None] - 2 * one @ other.T
    apart: NDArray[np.float32] = np.sqrt(np.maximum(squares, 0))
    return apart

"""The statistic behind the monitor: what it makes of queries that were found, and of made ones."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from models import datasets
from server.monitor_distances import DistanceRecord, reduced
from server.settings import MonitorSettings

Pictures = NDArray[np.uint8]
Labels = NDArray[np.int64]
THRESHOLD = MonitorSettings().threshold


@pytest.fixture(scope="module")
def digits() -> tuple[Pictures, Labels]:
    data = datasets.load("digits")
    return reduced(data.train_images), data.train_labels


def made(seeds: Pictures, labels: Labels, *, rounds: int, step: int) -> tuple[Pictures, Labels]:
    """Queries as Jacobian augmentation asks them: each round moves every image by signed steps."""
    rng = np.random.default_rng(0)
    asked, truth = seeds, labels
    for _ in range(rounds):
        signs = rng.choice([-1, 1], size=seeds.shape[1])
        moved = np.clip(asked.astype(np.int64) + step * signs, 0, 255).astype(np.uint8)
        asked, truth = np.concatenate((asked, moved)), np.concatenate((truth, truth))
    return asked, truth


def statistics(pictures: Pictures, labels: Labels, *, at_once: int = 10) -> list[float]:
    record = DistanceRecord(images=512, window=1000)
    tests = [
        record.add(pictures[start : start + at_once], labels[start : start + at_once])
        for start in range(0, len(pictures), at_once)
    ]
    return [test.statistic for test in tests if test is not None]


def test_natural_queries_look_natural(digits: tuple[Pictures, Labels]) -> None:
    found = statistics(*digits)
    assert len(found) > 50
    assert min(found) > THRESHOLD


def test_augmented_seeds_do_not(digits: tuple[Pictures, Labels]) -> None:
    pictures, labels = digits
    queries = made(pictures[:150], labels[:150], rounds=3, step=26)
    found = statistics(*queries)
    assert found[0] > THRESHOLD, "the seeds themselves are natural"
    assert min(found) < THRESHOLD


def test_steps_of_one_size_are_as_unnatural_as_can_be() -> None:
    corners = np.eye(120, dtype=np.uint8) * 200
    record = DistanceRecord(images=512, window=1000)
    record.add(corners, np.zeros(120, dtype=np.int64))
    test = record.test()
    assert test is not None
    assert test.statistic == 0.0


def test_it_is_the_same_one_by_one_and_together(digits: tuple[Pictures, Labels]) -> None:
    pictures, labels = digits[0][:400], digits[1][:400]
    alone, together = (DistanceRecord(images=512, window=1000) for _ in range(2))
    for index in range(400):
        alone.add(pictures[index : index + 1], labels[index : index + 1])
    for start in range(0, 400, 50):
        together.add(pictures[start : start + 50], labels[start : start + 50])
    one, other = alone.test(), together.test()
    assert one is not None
    assert other is not None
    assert one.distances == pytest.approx(other.distances, abs=2)
    assert one.statistic == pytest.approx(other.statistic, abs=0.01)


def test_asking_the_same_again_is_no_evidence(digits: tuple[Pictures, Labels]) -> None:
    pictures, labels = digits[0][:20], digits[1][:20]
    record = DistanceRecord(images=512, window=1000)
    for _ in range(50):
        assert record.add(pictures, labels) is None
    assert record.queries == 1000


def test_memory_is_bounded_and_the_set_follows_the_caller() -> None:
    rng = np.random.default_rng(0)
    record = DistanceRecord(images=64, window=128)
    for _ in range(20):
        record.add(rng.integers(0, 256, (50, 300), dtype=np.uint8), rng.integers(0, 10, 50))
    assert record._pictures is not None
    assert record._pictures.nbytes == 64 * 300, "no room is made for more either"
    test = record.test()
    assert test is not None
    assert test.distances <= 128


def test_large_pictures_are_averaged_down() -> None:
    images = np.zeros((2, 3, 224, 200), dtype=np.uint8)
    images[:, :, :7, :7] = 70
    small = reduced(images)
    assert small.shape == (2, 3 * 32 * 28)
    assert small[0, 0] == 70
    assert small.sum() == 2 * 3 * 70
    assert reduced(images[:, :, :32, :32]).shape == (2, 3 * 32 * 32)
    strip = np.full((1, 1, 1, 100), 70, dtype=np.uint8)
    assert reduced(strip).tolist() == [[70] * 25], "what is short is not averaged away"

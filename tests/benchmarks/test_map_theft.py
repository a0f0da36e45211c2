"""Theft with maps in pieces: what was asked is not asked again, and seeds are put together."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.map_answers import COMPARED, PIECE, SERVED, ask
from benchmarks.map_theft import _over_seeds, thefts


@dataclass
class Said:
    probabilities: NDArray[np.float32]
    attributions: NDArray[np.float32]


@dataclass
class Model:
    name: str = "none"


@dataclass
class Engine:
    """Answers with the first pixel of each image, and remembers how many were asked."""

    asked: list[int] = field(default_factory=list)

    def run(self, model: Model, requests: list[NDArray[np.uint8]], explain: object) -> Said:
        (images,) = requests
        self.asked.append(len(images))
        first = images[:, 0, 0, :1].astype(np.float32)
        return Said(first, first[:, :, None])


def asked(engine: Any, images: NDArray[np.uint8], folder: Path) -> tuple[Any, Any, float]:
    model: Any = Model()
    return ask(engine, model, images, folder)


def test_a_larger_budget_pays_for_what_is_new(tmp_path: Path) -> None:
    images = np.arange(3 * PIECE, dtype=np.uint16).astype(np.uint8).reshape(-1, 1, 1, 1)
    engine = Engine()
    said, maps, _ = asked(engine, images[:PIECE], tmp_path)
    assert sum(engine.asked) == PIECE
    assert max(engine.asked) == 64
    engine.asked.clear()
    more, more_maps, spent = asked(engine, images, tmp_path)
    assert sum(engine.asked) == 2 * PIECE
    np.testing.assert_array_equal(more[:, 0], images[:, 0, 0, 0])
    np.testing.assert_array_equal(more_maps[:PIECE], maps)
    np.testing.assert_array_equal(more[:PIECE], said)
    engine.asked.clear()
    again = asked(engine, images, tmp_path)
    assert engine.asked == []
    assert again[2] == pytest.approx(spent)


def test_a_piece_half_written_is_asked_again(tmp_path: Path) -> None:
    images = np.ones((PIECE + 7, 1, 1, 1), dtype=np.uint8)
    engine = Engine()
    asked(engine, images, tmp_path)
    (tmp_path / f"{PIECE}-{PIECE + 7}.npz").unlink()
    (tmp_path / f"{PIECE}-{PIECE + 7}.part.npz").write_bytes(b"half")
    engine.asked.clear()
    assert len(asked(engine, images, tmp_path)[0]) == PIECE + 7
    assert engine.asked == [7]


def test_a_figure_of_several_seeds_is_their_mean_with_how_far_they_lie_apart() -> None:
    (alone,) = _over_seeds("w", "none: answers", [0.5])
    assert (alone.value, alone.unit) == (0.5, "of test images")
    mean, apart = _over_seeds("w", "none: answers", [0.5, 0.7, 0.6])
    assert mean.value == pytest.approx(0.6)
    assert apart.value == pytest.approx(0.2)
    assert apart.unit == "largest less smallest of 3 seeds"


def test_who_is_robbed_with_every_budget_is_served() -> None:
    assert set(COMPARED) <= set(SERVED)
    assert all(thefts(name) for name in SERVED)
    assert [attacker for attacker, _, _ in thefts("dd-i")] == ["answers and maps"]

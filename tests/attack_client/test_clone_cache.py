"""Clones are trained once: in one process, in the next, and in two at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attack_client import clone_cache
from attack_client.clone import CloneRecipe
from attack_client.clone_cache import CloneCache, CloneShelf
from attack_client.predictions import predict
from tests.attack_client.stub import LinearModel

RECIPE = CloneRecipe(architecture="cnn-small", epochs=1)


def train(cache: CloneCache, model: LinearModel, seed: int = 0) -> torch.nn.Module:
    images = model.images(40)
    return cache.train(
        images,
        model(images),
        classes=model.classes,
        recipe=RECIPE,
        seed=seed,
        device="cpu",
        reporter=None,
    )


def refuse(*_: Any, **__: Any) -> None:
    pytest.fail("it was trained again")


def test_a_shelf_outlives_its_process(
    tmp_path: Path, model: LinearModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = CloneShelf(tmp_path)
    clone = train(first, model)
    assert first.seconds is not None
    assert first.seconds > 0
    monkeypatch.setattr(clone_cache, "train_clone", refuse)
    again = CloneShelf(tmp_path)
    shelved = train(again, model)
    assert again.seconds is None
    test = model.images(20, seed=9)
    np.testing.assert_array_equal(predict(clone, test), predict(shelved, test))


def test_a_damaged_clone_is_trained_again(tmp_path: Path, model: LinearModel) -> None:
    train(CloneShelf(tmp_path), model)
    (file,) = tmp_path.glob("*.safetensors")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    shelf = CloneShelf(tmp_path)
    train(shelf, model)
    assert shelf.seconds is not None
    assert file.read_bytes() == whole, "training is deterministic"


def test_another_seed_is_another_clone(tmp_path: Path, model: LinearModel) -> None:
    shelf = CloneShelf(tmp_path)
    train(shelf, model)
    train(shelf, model, seed=1)
    assert len(shelf) == len(list(tmp_path.glob("*.safetensors"))) == 2

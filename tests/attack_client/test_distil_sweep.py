"""Distillation in a program is the distillation of the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from attack_client import (
    CloneRecipe,
    Evaluation,
    Lesson,
    Pool,
    TestSet,
    TransferSet,
    as_pool,
    distil_and_score,
)
from attack_client.clone_recipes import clone_recipe
from attack_client.errors import PoolError
from attack_client.report import read_json
from models.datasets import load as load_dataset
from tests.attack_client.conftest import Serve
from tests.attack_client.stub import CLASSES, SHAPE, LinearModel, Stub
from tests.attack_client.test_distil import distil


def test_it_is_what_the_command_does(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with serve(Stub(model)) as url:
        told = distil(
            url, npz_root, out, "--labels", "soft,hard", "--temperature", "1,4", "--budget", "200"
        )
    assert told.exit_code == 0, told.output
    task = load_dataset("task", root=npz_root)
    with TransferSet.read(out / "transfer") as stolen:
        rows, verdict = distil_and_score(
            stolen,
            as_pool(task, SHAPE),
            budget=200,
            lessons=(Lesson(0.9, temperature) for temperature in (4.0, 1.0)),
            labels=("soft", "hard"),
            recipe=clone_recipe(architecture="cnn-small", epochs=1, holdout=0.1),
            evaluation=Evaluation(test=TestSet.of(task, shape=SHAPE, classes=CLASSES)),
        )
    written = read_json(out / "report.json").rows
    assert [(row.attack, row.labels, row.queries, row.clone_accuracy) for row in rows] == [
        (row.attack, row.labels, row.queries, row.clone_accuracy) for row in written
    ]
    [document] = json.loads((out / "distillation.json").read_text())["verdicts"]
    assert json.loads(json.dumps(verdict.as_json())) == document
    assert verdict.held_out == 20
    assert len(rows) == 1 + 2 * 2


def test_labels_of_other_images_are_refused(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path
) -> None:
    with serve(Stub(model)) as url:
        assert distil(url, npz_root, tmp_path / "run", "--budget", "40").exit_code == 0
    task = load_dataset("task", root=npz_root)
    other = Pool("other", model.images(50, seed=9), np.zeros(50, dtype=np.int64))
    with (
        TransferSet.read(tmp_path / "run" / "transfer") as stolen,
        pytest.raises(PoolError, match="images that are not in pool other"),
    ):
        distil_and_score(
            stolen,
            other,
            budget=40,
            lessons=[Lesson()],
            recipe=CloneRecipe(architecture="cnn-small", epochs=1),
            evaluation=Evaluation(test=TestSet.of(task, shape=SHAPE, classes=CLASSES)),
        )

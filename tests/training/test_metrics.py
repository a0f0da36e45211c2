from __future__ import annotations

import csv
from pathlib import Path

import pytest

from models.errors import TrainingError
from models.training.cross_entropy import CrossEntropy
from models.training.loop import fit
from models.training.metrics import CsvMetrics, Metrics, TensorBoardMetrics
from tests.training.toys import Interrupted, Interrupting, network, plan, problem


def run(metrics: Metrics, state: Path, after: int | None = None, seed: int = 7) -> None:
    fit(
        CrossEntropy(network()),
        problem(),
        plan(seed=seed),
        state=state,
        metrics=[metrics],
        reporter=Interrupting(after=after),
    )


def test_csv_has_a_row_per_epoch_across_an_interruption(tmp_path: Path) -> None:
    path = tmp_path / "metrics" / "toy.csv"
    with pytest.raises(Interrupted):
        run(CsvMetrics(path), tmp_path / "state", after=2)
    first = path.read_text()
    # As if the kill had come between the checkpoint and the last row.
    path.write_text("".join(first.splitlines(keepends=True)[:2]))
    run(CsvMetrics(path), tmp_path / "state")
    assert path.read_text().startswith(first)
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert float(rows[-1]["validation_accuracy"]) > 0.9
    assert float(rows[0]["cross_entropy"]) > float(rows[-1]["cross_entropy"])


def test_the_metrics_of_another_run_are_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "toy.csv"
    run(CsvMetrics(path), tmp_path / "state")
    before = path.read_text()
    with pytest.raises(TrainingError, match="holds the metrics of another run"):
        run(CsvMetrics(path), tmp_path / "other", seed=8)
    assert path.read_text() == before
    run(CsvMetrics(path, restart=True), tmp_path / "third", seed=8)
    assert len(path.read_text().splitlines()) == 5
    assert path.read_text() != before


def test_metrics_that_cannot_be_written_cost_no_epoch(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for metrics in (
        CsvMetrics(tmp_path / "file" / "toy.csv"),
        TensorBoardMetrics(tmp_path / "file" / "toy"),
    ):
        reporter = Interrupting()
        with pytest.raises(TrainingError, match="no metrics can be written to"):
            fit(CrossEntropy(network()), problem(), plan(), metrics=[metrics], reporter=reporter)
        assert reporter.calls == []


def test_tensorboard_reads_every_step_once_across_an_interruption(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = tmp_path / "events"
    with pytest.raises(Interrupted):
        run(TensorBoardMetrics(events), tmp_path / "state", after=2)
    run(TensorBoardMetrics(events), tmp_path / "state")
    found = EventAccumulator(str(events))
    found.Reload()
    steps = [event.step for event in found.Scalars("step/loss/cross_entropy")]
    assert steps == list(range(1, 21))  # five steps in each of four epochs
    assert [event.step for event in found.Scalars("epoch/validation_accuracy")] == [5, 10, 15, 20]

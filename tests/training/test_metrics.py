from __future__ import annotations

import csv
import errno
from collections.abc import Sequence
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

from models.errors import TrainingError
from models.training.cross_entropy import CrossEntropy
from models.training.history import EpochRecord
from models.training.loop import fit
from models.training.metrics import CsvMetrics, Metrics, TensorBoardMetrics
from tests.training.toys import Interrupted, Interrupting, network, plan, problem


@pytest.fixture(autouse=True)
def _ordered_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of one second are read by name, in which the tenth writer comes before the ninth."""
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(1000))


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


def seen(events: Path) -> EventAccumulator:
    """What TensorBoard shows of a directory."""
    found = EventAccumulator(str(events))
    found.Reload()
    return found


def steps(events: Path) -> list[int]:
    return [event.step for event in seen(events).Scalars("step/loss/cross_entropy")]


def test_tensorboard_reads_every_step_once_across_an_interruption(tmp_path: Path) -> None:
    events = tmp_path / "events"
    with pytest.raises(Interrupted):
        run(TensorBoardMetrics(events), tmp_path / "state", after=2)
    run(TensorBoardMetrics(events), tmp_path / "state")
    assert steps(events) == list(range(1, 21))  # five steps in each of four epochs
    scores = seen(events).Scalars("epoch/validation_accuracy")
    assert [event.step for event in scores] == [5, 10, 15, 20]


class Dying(TensorBoardMetrics):
    """A run that is killed in its first epoch: what it wrote is there, and no epoch is."""

    def epoch(self, history: Sequence[EpochRecord]) -> None:
        self._writer.flush()
        raise Interrupted


@pytest.mark.parametrize("restart", [False, True])
def test_a_kill_in_the_first_epoch_leaves_one_curve(tmp_path: Path, restart: bool) -> None:
    events = tmp_path / "events"
    with pytest.raises(Interrupted):
        run(Dying(events), tmp_path / "state")
    assert steps(events) == list(range(1, 6))
    (tmp_path / "state" / "checkpoint.safetensors").unlink()
    run(TensorBoardMetrics(events, restart=restart), tmp_path / "state")
    assert steps(events) == list(range(1, 21))


def test_one_curve_is_never_made_of_two_runs(tmp_path: Path) -> None:
    events = tmp_path / "events"
    run(TensorBoardMetrics(events), tmp_path / "state")
    files = sorted(events.iterdir())
    losses = [event.value for event in seen(events).Scalars("epoch/loss/cross_entropy")]
    # The same run from its first step, another one, and another one that goes on after its second.
    with pytest.raises(Interrupted):
        run(CsvMetrics(tmp_path / "elsewhere.csv"), tmp_path / "second", seed=8, after=2)
    for state, seed in (("again", 7), ("other", 8), ("second", 8)):
        with pytest.raises(TrainingError, match=f"{events} holds the events of another run"):
            run(TensorBoardMetrics(events), tmp_path / state, seed=seed)
    assert sorted(events.iterdir()) == files
    run(TensorBoardMetrics(events, restart=True), tmp_path / "third", seed=8)
    assert steps(events) == list(range(1, 21))
    theirs = [event.value for event in seen(events).Scalars("epoch/loss/cross_entropy")]
    assert len(theirs) == 4
    assert theirs != losses
    assert not set(files) & set(events.glob("events.out.*"))


def test_events_of_which_nothing_is_known_are_another_runs(tmp_path: Path) -> None:
    run(TensorBoardMetrics(tmp_path / "events"), tmp_path / "state")
    (tmp_path / "events" / "epochs.csv").unlink()
    for state in ("state", "other"):
        with pytest.raises(TrainingError, match="holds the events of another run"):
            run(TensorBoardMetrics(tmp_path / "events"), tmp_path / state)


def test_a_run_that_was_not_watched_at_first_is_watched_from_there_on(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        run(CsvMetrics(tmp_path / "toy.csv"), tmp_path / "state", after=2)
    with pytest.raises(Interrupted):
        run(TensorBoardMetrics(tmp_path / "events"), tmp_path / "state", after=3)
    run(TensorBoardMetrics(tmp_path / "events"), tmp_path / "state")
    assert steps(tmp_path / "events") == list(range(11, 21))


def test_what_a_full_disk_raises_names_the_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    events = TensorBoardMetrics(tmp_path / "events")
    events.begin((), 5)
    monkeypatch.setattr(events._writer, "add_scalar", full)
    with pytest.raises(OSError, match="No space left") as raised:
        events.step(1, 0.1, {"cross_entropy": 1.0})
    assert raised.value.filename == str(tmp_path / "events")
    events.close()

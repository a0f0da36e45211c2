"""What a run measures of itself, where programs can read it: CSV and TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from models.errors import TrainingError
from models.training.history import EpochRecord, history_csv, write_history

__all__ = ["CsvMetrics", "Metrics", "TensorBoardMetrics"]


class Metrics(Protocol):
    """What the loop calls. ``close`` follows every ``begin``, also when training fails."""

    def begin(self, history: Sequence[EpochRecord], steps: int) -> None:
        """A run of ``steps`` steps an epoch begins after the epochs of ``history``."""
        ...

    def step(self, number: int, rate: float, losses: Mapping[str, float]) -> None:
        """Step ``number`` of the whole run, from 1, was taken at learning rate ``rate``."""
        ...

    def epoch(self, history: Sequence[EpochRecord]) -> None:
        """An epoch is done, the last of ``history``."""
        ...

    def close(self) -> None:
        """The run is over, one way or another."""
        ...


class CsvMetrics:
    """A row per epoch in a file of its own, whole at any moment and the same after a resume.

    Args:
        path: of the file; directories above it are made.
        restart: replace a file of another run instead of refusing it.
    """

    def __init__(self, path: Path, *, restart: bool = False) -> None:
        self._path = path
        self._restart = restart

    def begin(self, history: Sequence[EpochRecord], steps: int) -> None:
        """Write what is known.

        Raises:
            TrainingError: the file tells of other epochs than those of ``history``, or there can
                be none.
        """
        del steps
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            before = self._path.read_text() if self._path.exists() else ""
            # A kill may have come between the checkpoint and the row.
            if not self._restart and not history_csv(history).startswith(before):
                raise TrainingError(
                    f"{self._path} holds the metrics of another run: name another directory, or "
                    "delete that file"
                )
            if history:
                write_history(self._path, history)
            elif before:
                self._path.unlink()
        except OSError as error:
            reason = error.strerror or str(error)
            raise TrainingError(f"no metrics can be written to {self._path}: {reason}") from error

    def step(self, number: int, rate: float, losses: Mapping[str, float]) -> None:
        """Nothing: rows are of epochs."""

    def epoch(self, history: Sequence[EpochRecord]) -> None:
        """Replace the file by one with a row more."""
        write_history(self._path, history)

    def close(self) -> None:
        """Nothing: no file is left open."""


class TensorBoardMetrics:
    """Losses and learning rate of every step, and losses and accuracy of every epoch, as events.

    A resumed run goes on in the same directory; TensorBoard is told to forget the steps after
    the last finished epoch.

    Args:
        directory: of the event files; one run each.

    Raises:
        ModuleNotFoundError: the package ``tensorboard`` is not installed.
    """

    def __init__(self, directory: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._open = SummaryWriter
        self._directory = directory
        self._steps = 0

    def begin(self, history: Sequence[EpochRecord], steps: int) -> None:
        """Open a new event file.

        Raises:
            TrainingError: there can be none.
        """
        self._steps = steps
        first = len(history) * steps + 1
        try:
            self._writer = self._open(str(self._directory), purge_step=first if history else None)
        except OSError as error:
            reason = error.strerror or str(error)
            raise TrainingError(
                f"no metrics can be written to {self._directory}: {reason}"
            ) from error

    def step(self, number: int, rate: float, losses: Mapping[str, float]) -> None:
        """``step/loss/NAME`` and ``step/learning_rate``."""
        for name, value in losses.items():
            self._writer.add_scalar(f"step/loss/{name}", value, number)
        self._writer.add_scalar("step/learning_rate", rate, number)

    def epoch(self, history: Sequence[EpochRecord]) -> None:
        """``epoch/loss/NAME``, ``epoch/validation_accuracy`` and ``epoch/seconds``."""
        record = history[-1]
        number = record.epoch * self._steps
        for name, value in record.losses.items():
            self._writer.add_scalar(f"epoch/loss/{name}", value, number)
        if record.accuracy is not None:
            self._writer.add_scalar("epoch/validation_accuracy", record.accuracy, number)
        self._writer.add_scalar("epoch/seconds", record.seconds, number)
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()

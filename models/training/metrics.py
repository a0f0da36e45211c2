"""What a run measures of itself, where programs can read it: CSV and TensorBoard."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from models.errors import TrainingError
from models.training.history import EpochRecord, history_csv, write_history

__all__ = ["CsvMetrics", "Metrics", "TensorBoardMetrics"]


class Metrics(Protocol):
    """What the loop calls. ``close`` follows every ``begin``, also when training fails."""

    def check(self, history: Sequence[EpochRecord]) -> None:
        """Refuse what ``begin`` would refuse after the epochs of ``history``; nothing is written.

        For whoever spends something before the first epoch. Directories may be made.
        """
        ...

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

    def check(self, history: Sequence[EpochRecord]) -> None:
        """Look whether the file can be written, and is this run's.

        Raises:
            TrainingError: the file tells of other epochs than those of ``history``, or there can
                be none.
        """
        with _writing_to(self._path):
            _make(self._path.parent)
            if not self._restart and _tells_of_others(self._path, history):
                raise TrainingError(
                    f"{self._path} holds the metrics of another run: name another directory, or "
                    "delete that file"
                )

    def begin(self, history: Sequence[EpochRecord], steps: int) -> None:
        """Write what is known.

        Raises:
            TrainingError: as ``check``.
        """
        del steps
        self.check(history)
        with _writing_to(self._path):
            if history:
                write_history(self._path, history)
            else:
                self._path.unlink(missing_ok=True)

    def step(self, number: int, rate: float, losses: Mapping[str, float]) -> None:
        """Nothing: rows are of epochs."""

    def epoch(self, history: Sequence[EpochRecord]) -> None:
        """Replace the file by one with a row more.

        Raises:
            OSError: it cannot be written; names the file.
        """
        write_history(self._path, history)

    def close(self) -> None:
        """Nothing: no file is left open."""


class TensorBoardMetrics:
    """Losses and learning rate of every step, and losses and accuracy of every epoch, as events.

    A run that goes on, after a kill in its first epoch too, does so in the same directory, and
    TensorBoard is told to forget the steps after the last finished epoch. ``epochs.csv`` beside the
    events says which epochs they tell of: events of other epochs are another run's, and one curve
    is never made of two runs.

    Args:
        directory: of the event files; one run each.
        restart: delete the events of another run instead of refusing them.

    Raises:
        ModuleNotFoundError: the package ``tensorboard`` is not installed.
    """

    def __init__(self, directory: Path, *, restart: bool = False) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._open = SummaryWriter
        self._directory = directory
        self._epochs = directory / "epochs.csv"
        self._restart = restart
        self._steps = 0

    def check(self, history: Sequence[EpochRecord]) -> None:
        """Look whether events can be written, and whether those there are this run's.

        Raises:
            TrainingError: there are events of other epochs than those of ``history``, or there can
                be none.
        """
        with _writing_to(self._directory):
            _make(self._directory)
            if self._restart or not self._events():
                return
            if not self._epochs.exists() or _tells_of_others(self._epochs, history):
                raise TrainingError(
                    f"{self._directory} holds the events of another run: name another directory, "
                    "or delete that one"
                )

    def begin(self, history: Sequence[EpochRecord], steps: int) -> None:
        """Open a new event file, from whose first step on all others are forgotten.

        Raises:
            TrainingError: as ``check``.
        """
        self.check(history)
        self._steps = steps
        with _writing_to(self._directory):
            if self._restart:
                for file in self._events():
                    file.unlink()
            write_history(self._epochs, history)
            self._writer = self._open(str(self._directory), purge_step=len(history) * steps + 1)

    def step(self, number: int, rate: float, losses: Mapping[str, float]) -> None:
        """``step/loss/NAME`` and ``step/learning_rate``.

        Raises:
            OSError: they cannot be written; names the directory.
        """
        with _naming(self._directory):
            for name, value in losses.items():
                self._writer.add_scalar(f"step/loss/{name}", value, number)
            self._writer.add_scalar("step/learning_rate", rate, number)

    def epoch(self, history: Sequence[EpochRecord]) -> None:
        """``epoch/loss/NAME``, ``epoch/validation_accuracy`` and ``epoch/seconds``.

        Raises:
            OSError: they cannot be written; names the directory or ``epochs.csv``.
        """
        record = history[-1]
        number = record.epoch * self._steps
        with _naming(self._directory):
            for name, value in record.losses.items():
                self._writer.add_scalar(f"epoch/loss/{name}", value, number)
            if record.accuracy is not None:
                self._writer.add_scalar("epoch/validation_accuracy", record.accuracy, number)
            self._writer.add_scalar("epoch/seconds", record.seconds, number)
            self._writer.flush()
        write_history(self._epochs, history)

    def close(self) -> None:
        """Close the event file.

        Raises:
            OSError: what was left cannot be written; names the directory.
        """
        with _naming(self._directory):
            self._writer.close()

    def _events(self) -> list[Path]:
        return list(self._directory.glob("events.out.tfevents.*"))


def _tells_of_others(path: Path, history: Sequence[EpochRecord]) -> bool:
    """Whether the file has anything that ``history`` has not.

    It may have less: a kill may have come between the checkpoint and the row.
    """
    return path.exists() and not history_csv(history).startswith(path.read_text(errors="replace"))


def _make(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    if not os.access(directory, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


@contextmanager
def _writing_to(path: Path) -> Iterator[None]:
    """Before the first epoch, what cannot be written is a refusal."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise TrainingError(f"no metrics can be written to {path}: {reason}") from error


@contextmanager
def _naming(directory: Path) -> Iterator[None]:
    """What is raised names ``directory``, which a full disk does not do."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(directory)
        raise

"""How a run tells a person where it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from models.console import open_console
from models.training.history import EpochRecord

__all__ = ["Reporter", "RichReporter", "Silent", "StatusColumn"]


class Reporter(Protocol):
    """What the loop calls. ``stop`` follows every ``start``, also when training fails."""

    def start(self, epochs: int, steps: int, done: int) -> None:
        """A run of ``epochs`` epochs of ``steps`` steps begins after ``done`` resumed epochs."""
        ...

    def step(self, epoch: int, step: int, losses: Mapping[str, float]) -> None:
        """Step ``step`` (from 1) of epoch ``epoch`` (from 1) is done; its losses by name."""
        ...

    def epoch(self, record: EpochRecord) -> None:
        """An epoch is done, and saved if the run saves its state."""
        ...

    def stop(self) -> None:
        """The run is over, one way or another."""
        ...


class Silent:
    """Tells nobody."""

    def start(self, epochs: int, steps: int, done: int) -> None:
        """Nothing."""

    def step(self, epoch: int, step: int, losses: Mapping[str, float]) -> None:
        """Nothing."""

    def epoch(self, record: EpochRecord) -> None:
        """Nothing."""

    def stop(self) -> None:
        """Nothing."""


class StatusColumn(ProgressColumn):
    """The ``status`` field of a task; empty for tasks that have none."""

    def render(self, task: Task) -> Text:
        """The field as plain text."""
        return Text(str(task.fields.get("status", "")))


class RichReporter:
    """A live bar with epoch, loss, validation accuracy and time left; plain lines in a log file.

    Args:
        description: what is being trained.
        console: where to draw; the standard one by default.
        progress: draw a task of this live display instead of an own one, for programs that show
            several things at once; give it a ``StatusColumn``. It is not started or stopped here.
    """

    def __init__(
        self,
        description: str = "training",
        *,
        console: Console | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._description = description
        self._given = progress
        self._console = progress.console if progress is not None else console or open_console()
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._epochs = self._steps = 0
        self._accuracy = ""
        self._smoothed: float | None = None

    def start(self, epochs: int, steps: int, done: int) -> None:
        """Draw the bar."""
        self._epochs, self._steps = epochs, steps
        self._accuracy, self._smoothed = "", None
        self._progress = self._given or Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            StatusColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        # Resumed epochs are left out of the task, so that the time left is that of what remains.
        self._task = self._progress.add_task(
            self._description, total=max(1, (epochs - done) * steps), status=""
        )
        if self._given is None:
            self._progress.start()
        if done:
            self._progress.console.print(f"{self._description}: resumed after epoch {done}")

    def step(self, epoch: int, step: int, losses: Mapping[str, float]) -> None:
        """Advance the bar; the loss shown is a running mean."""
        del step
        assert self._progress is not None
        loss = sum(losses.values())
        old = self._smoothed
        self._smoothed = loss if old is None else 0.95 * old + 0.05 * loss
        status = f"epoch {epoch}/{self._epochs}  loss {self._smoothed:.4f}{self._accuracy}"
        self._progress.update(self._task, advance=1, status=status)

    def epoch(self, record: EpochRecord) -> None:
        """Show the validation accuracy from now on; without a terminal, print a line."""
        assert self._progress is not None
        if record.accuracy is not None:
            self._accuracy = f"  validation {record.accuracy:.2%}"
        if not self._console.is_terminal:
            self._console.print(
                f"{self._description}: epoch {record.epoch}/{self._epochs}  "
                f"loss {record.loss:.4f}{self._accuracy}  {record.seconds:.1f} s"
            )

    def stop(self) -> None:
        """Complete or freeze the bar."""
        if self._progress is not None and self._given is None:
            self._progress.stop()
        self._progress = None

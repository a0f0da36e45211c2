"""How far something with a known end has come: a bar, or a line now and then in a log file."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["Counting"]


class Counting:
    """Call it with what is done and what there is; it appears with the first call.

    Args:
        description: what is counted.
        console: where to draw.
    """

    def __init__(self, description: str, console: Console) -> None:
        self._description = description
        self._console = console
        self._progress: Progress | None = None
        self._tenth = 0

    def __call__(self, done: int, total: int) -> None:
        """Draw; the bar goes when all is done."""
        if not self._console.is_terminal:
            if done * 10 // total > self._tenth or done == total:
                self._tenth = done * 10 // total
                self._console.print(f"{self._description}: {done} of {total}")
            return
        if self._progress is None:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._progress.add_task(self._description)
            self._progress.start()
        self._progress.update(self._progress.task_ids[0], completed=done, total=total)
        if done == total:
            self.stop()

    def stop(self) -> None:
        """Leave the terminal as it was; also after a failure."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

"""How a theft tells a person where it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from attack_client.oracle import Tally, Watch
from models.training.progress import Reporter, RichReporter, StatusColumn

__all__ = ["progress_of", "watch_queries", "watch_theft"]


@contextmanager
def watch_theft(console: Console, description: str = "stealing") -> Iterator[Watch]:
    """A bar with queries per second and time left; ends in one line that says what was paid."""
    last: Tally | None = None
    try:
        with _bar(console) as bar:
            task = bar.add_task(description, total=None, status="")

            def watch(tally: Tally) -> None:
                nonlocal last
                last = tally
                bar.update(
                    task,
                    total=tally.budget,
                    completed=tally.had,
                    status=f"{_rate(tally)} queries/s",
                )

            yield watch
    finally:
        if last is not None:
            console.print(f"{description}: {_sentence(last)}", highlight=False)


@contextmanager
def watch_queries(console: Console, description: str) -> Iterator[Callable[[int, int], None]]:
    """A bar for ``(done, total)`` queries."""
    with _bar(console) as bar:
        task = bar.add_task(description, total=None, status="")
        yield lambda done, total: bar.update(task, total=total, completed=done)


def progress_of(description: str, console: Console) -> Reporter | None:
    """A live bar; a log file is spared a line per epoch of every clone."""
    if console.is_terminal:
        return RichReporter(description, console=console)
    console.print(description)
    return None


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} queries"),
        StatusColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )


def _rate(tally: Tally) -> str:
    return f"{tally.queries_per_second:,.0f}"


def _sentence(tally: Tally) -> str:
    parts = [f"{tally.queries:,} queries in {tally.seconds:.1f} s ({_rate(tally)}/s)"]
    if tally.replayed:
        parts.append(f"{tally.replayed:,} answers were on disk already")
    if tally.repaired:
        parts.append(f"{tally.repaired:,} bytes of a torn last record were cut off")
    if tally.copied:
        parts.append(f"{tally.copied:,} images were asked about before")
    if tally.resent:
        parts.append(f"{tally.resent:,} samples were sent again")
    return ", ".join(parts)

"""Where people read: tables are fitted to a terminal, and nothing of a number is ever cut off."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import Any, TypeVar, overload

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Column, Table

__all__ = ["UNBOUNDED", "open_console", "print_table"]

UNBOUNDED = 100_000
"""Columns of what is no terminal: a file and a pipe have no edge to wrap at."""

LEAST_FOLDED = 16
"""Columns below which nobody can read a name that is broken over lines."""

AnyConsole = TypeVar("AnyConsole", bound=Console)


@overload
def open_console(**options: Any) -> Console: ...
@overload
def open_console(kind: type[AnyConsole], **options: Any) -> AnyConsole: ...
def open_console(kind: type[Console] = Console, **options: Any) -> Console:
    """A console on standard output, as wide as ``COLUMNS`` says, or else the terminal.

    Where standard output is a file or a pipe and nobody set ``COLUMNS``, lines are as long as what
    they hold: a log is searched, and what was cut out of it is lost.

    Args:
        kind: of the console.
        options: of its constructor.
    """
    if not os.environ.get("COLUMNS", "").isdecimal() and not sys.stdout.isatty():
        # Both, or Rich takes a dumb terminal for 80 columns wide.
        options = {"width": UNBOUNDED, "height": 25, **options}
    return kind(**options)


def print_table(console: Console, table: Table, *, highlight: bool | None = None) -> None:
    """Print ``table`` in as much of the console as it needs, with every word of it whole.

    Cells and headings wrap between words. Where that is not narrow enough the lines are longer than
    the console is wide, and a terminal continues them below. Columns whose overflow is ``fold``
    hold names, which may be broken anywhere instead, into pieces of 16 characters.

    Args:
        console: where to.
        table: its columns get their least width here, so it is printed once.
        highlight: as of ``Console.print``.
    """
    anywhere = console.options.update(width=UNBOUNDED)
    broken = sum(_keep_whole(console, anywhere, column) for column in table.columns)
    least = Measurement.get(console, anywhere, table).minimum - broken
    console.print(_AtLeast(table, least), highlight=highlight, soft_wrap=False, crop=False)


def _keep_whole(console: Console, anywhere: ConsoleOptions, column: Column) -> int:
    """Give ``column`` its least width; by how much its longest word is wider."""
    if column.width is not None:
        # Rich takes from a fixed width where the table does not fit, but never from a least one.
        column.min_width = column.max_width = column.width
        column.width = None
        return 0
    needs = [
        Measurement.get(console, anywhere, renderable)
        for renderable in (column.header, *column.cells)
    ]
    word, line = max(of.minimum for of in needs), max(of.maximum for of in needs)
    if column.overflow == "fold":
        column.min_width = min(word, LEAST_FOLDED)
        return word - column.min_width
    # What cannot wrap gives nothing, and then Rich takes from the others first.
    column.no_wrap = column.no_wrap or word == line
    column.min_width = line if column.no_wrap else word
    return 0


@dataclass(frozen=True, slots=True)
class _AtLeast:
    table: Table
    width: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        # In less than that Rich would leave out whole columns.
        width = max(options.max_width, self.width)
        yield from console.render(self.table, options.update(width=width))

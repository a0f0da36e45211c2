"""The summary as a table in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from attack_client.report.schema import Row
from attack_client.report.summary import COLUMNS, summarise

__all__ = ["render_table"]


def render_table(rows: Sequence[Row], *, title: str | None = None) -> Table:
    """One line per victim, at the largest budget; the undefended one in bold."""
    table = Table(
        # Without padding it fits eighty columns.
        title=title,
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=0,
    )
    lines = summarise(rows)
    for number, heading in enumerate(COLUMNS):
        if number == 0:
            # The one column that a narrow terminal may break: a figure cut short is none.
            table.add_column(heading, overflow="fold")
            continue
        # As wide as the longest cell; headings wrap between words.
        cells = [line.cells()[number] for line in lines]
        table.add_column(heading, justify="right", width=max(map(len, [*cells, *heading.split()])))
    for line in lines:
        table.add_row(*line.cells(), style="bold" if line.name == "none" else None)
    return table

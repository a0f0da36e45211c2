"""Tables in Markdown, closed where they would fill a screen."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["closed", "folded", "table"]

LONGEST_OPEN = 30
"""Rows of the longest table that is shown without being asked for."""


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def folded(title: str, content: str, rows: int) -> str:
    """A titled table, closed until it is asked for if it would fill a screen."""
    if rows <= LONGEST_OPEN:
        return f"{title}:\n\n{content}"
    return closed(f"{title} ({rows} rows)", content)


def closed(title: str, content: str) -> str:
    """What few readers need, closed until it is asked for."""
    return f"<details>\n<summary>{title}</summary>\n\n{content}\n\n</details>"

"""How every command refuses: one sentence on standard error, exit status 2."""

from __future__ import annotations

import click

__all__ = ["Sentence", "system_problem"]


class Sentence(click.ClickException):
    """An error that a person can act on.

    Status 1 is left to a gate that fails, so that a job can tell a leak from a mistake.
    """

    exit_code = 2


def system_problem(error: OSError, place: object = None) -> str:
    """``FILENAME: No space left on device``; ``place`` is named where the error names no file."""
    where = error.filename if error.filename is not None else place
    why = error.strerror or str(error) or type(error).__name__
    return why if where is None else f"{where}: {why}"

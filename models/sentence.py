"""How every command refuses: one sentence on standard error, exit status 2."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

__all__ = ["PlainCommand", "PlainGroup", "Sentence", "system_problem"]


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


@contextmanager
def _plainly() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.EPIPE:  # who reads the output has seen enough
            raise
        raise Sentence(system_problem(error)) from error
    except KeyboardInterrupt:
        click.echo("Interrupted.", err=True)
        raise SystemExit(130) from None


class PlainCommand(click.Command):
    """Ends in a sentence where the system refuses, and with status 130 where it is interrupted."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run it."""
        with _plainly():
            return super().invoke(ctx)


class PlainGroup(click.Group):
    """The same of every command in it."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run one of its commands."""
        with _plainly():
            return super().invoke(ctx)

"""An option of one number, or of several with commas."""

from __future__ import annotations

import click

__all__ = ["numbers"]


def numbers(ctx: click.Context, parameter: click.Parameter, value: str) -> tuple[float, ...]:
    """The different numbers in ``value``, ascending: a callback of an option.

    Raises:
        click.BadParameter: something in it is no number.
    """
    try:
        return tuple(sorted({float(part) for part in value.split(",")}))
    except ValueError as error:
        raise click.BadParameter("give a number, or several with commas", ctx, parameter) from error

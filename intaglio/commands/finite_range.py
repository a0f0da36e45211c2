"""A range of numbers on a command line; ``nan`` lies in none, and infinity is no setting."""

from __future__ import annotations

import math
from typing import Any

import click

__all__ = ["FiniteRange"]


class FiniteRange(click.FloatRange):
    """``click.FloatRange`` of finite numbers: every comparison with ``nan`` lets it through."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number that ``value`` says.

        Raises:
            click.BadParameter: it is none, not finite, or out of range.
        """
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number

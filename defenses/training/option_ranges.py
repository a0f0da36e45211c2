"""Ranges that options of several objectives share, each refused in the same words."""

from __future__ import annotations

import math
from collections.abc import Sequence

from defenses.errors import OptionError

__all__ = ["above_zero", "one_of", "weight"]


def weight(option: str, value: float) -> float:
    """``value``, what a term or a ramp counts for.

    Raises:
        OptionError: negative, infinite or NaN; names the option.
    """
    if not (math.isfinite(value) and value >= 0.0):
        raise OptionError(option, f"must be a finite number >= 0, not {value!r}")
    return float(value)


def above_zero(option: str, value: float) -> float:
    """``value``, for instance a temperature.

    Raises:
        OptionError: zero, negative, infinite or NaN; names the option.
    """
    if not (math.isfinite(value) and value > 0.0):
        raise OptionError(option, f"must be a finite number above 0, not {value!r}")
    return float(value)


def one_of(option: str, value: str, forms: Sequence[str]) -> None:
    """Refuse a form that does not exist.

    Raises:
        OptionError: ``value`` is not among ``forms``; names the option.
    """
    if value not in forms:
        *others, last = forms
        raise OptionError(option, f"must be {', '.join(others)} or {last}, not {value!r}")

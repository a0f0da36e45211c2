"""Numbers that people give: a whole one or a finite one, or a sentence that names the option."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

__all__ = ["finite_number", "whole_number"]


def whole_number(name: str, value: Any, *, least: int, most: int | None = None) -> int:
    """``value``, which is a whole number in ``[least, most]``.

    A number with a fraction, even of zero, is none, and neither is a truth value.

    Raises:
        ValueError: it is not; names ``name`` and the bounds.
    """
    bounds = f"at least {least}" if most is None else f"between {least} and {most}"
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ValueError(f"{name} must be a whole number, {bounds}, not {value!r}")
    if value < least or (most is not None and value > most):
        raise ValueError(f"{name} must be {bounds}, not {value}")
    return int(value)


def finite_number(name: str, value: Any) -> float:
    """``value``, which is a number, neither infinite nor NaN nor a truth value.

    Raises:
        ValueError: it is not; names ``name``.
    """
    number = isinstance(value, int | float | np.integer | np.floating)
    if isinstance(value, bool) or not number or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, not {value!r}")
    checked: float = value
    return checked

"""Which of two media types a caller would rather have."""

from __future__ import annotations

__all__ = ["prefers"]


def prefers(accept: str | None, wanted: str, over: str) -> bool:
    """Whether ``Accept`` (RFC 9110, 12.5.1) weighs ``wanted`` above ``over``.

    A type is weighed by the most specific range that names it. What cannot be read is not asked
    for, and no header asks for anything.
    """
    weights: dict[str, float] = {}
    for item in (accept or "*/*").lower().split(","):
        media_range, *parameters = (part.strip() for part in item.split(";"))
        weights[media_range] = _weight(parameters)
    return _weighed(weights, wanted) > _weighed(weights, over)


def _weighed(weights: dict[str, float], media_type: str) -> float:
    for media_range in (media_type, f"{media_type.partition('/')[0]}/*", "*/*"):
        if media_range in weights:
            return weights[media_range]
    return 0.0


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                weight = float(value)
            except ValueError:
                return 0.0
            return weight if 0.0 <= weight <= 1.0 else 0.0
    return 1.0

"""What a key may still ask, where the server tells: ``GET /v1/usage``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attack_client.errors import OverBudget

__all__ = ["Allowance"]


class Allowance:
    """Samples that are left; spent before they are sent, so that none is refused.

    Other programs may use the same key: then the server refuses before this does.

    Args:
        left: samples.
        until: when there will be more, as the server says it; None if never.
    """

    def __init__(self, left: int, *, until: str | None = None) -> None:
        self.left = left
        self.until = until

    @classmethod
    def read(cls, usage: Mapping[str, Any]) -> Allowance | None:
        """From the server's answer; None where it names no limit, or is no such answer."""
        today, lifetime = _left(usage.get("today")), _left(usage.get("lifetime"))
        if lifetime is not None and (today is None or lifetime <= today):
            return cls(lifetime)
        if today is None:
            return None
        resets = usage["today"].get("resets_at")
        return cls(today, until=resets if isinstance(resets, str) else None)

    def spend(self, samples: int) -> None:
        """Take ``samples`` from what is left.

        Raises:
            OverBudget: there are not so many.
        """
        if samples > self.left:
            more = "this key will have no more" if self.until is None else f"more from {self.until}"
            raise OverBudget(
                f"the key's query budget is spent: {self.left} samples are left of it ({more}); "
                "every answer is on disk, go on with --resume",
                status=429,
            )
        self.left -= samples


def _left(part: object) -> int | None:
    """Of one budget ``{"used": n, "limit": m}``."""
    if not isinstance(part, Mapping):
        return None
    used, limit = part.get("used"), part.get("limit")
    if type(used) is not int or type(limit) is not int:
        return None
    return max(0, limit - used)

"""What a key may still ask, where the server tells: ``GET /v1/usage``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol, runtime_checkable

from attack_client.errors import OverBudget

__all__ = ["Allowance", "Metered", "Purse"]


class Allowance:
    """Samples that are left; spent before they are sent, so that none is refused.

    Other programs may use the same key: then the server refuses before this does.

    Args:
        left: samples.
        until: when there will be more, as the server says it; None if never.
        ever: samples that are left of a budget which never begins anew; None where there is none.
        a_day: samples that may be asked on one day; None where no day is limited.
    """

    def __init__(
        self,
        left: int,
        *,
        until: str | None = None,
        ever: int | None = None,
        a_day: int | None = None,
    ) -> None:
        self.left = left
        self.until = until
        self.ever = ever
        self.a_day = a_day

    @classmethod
    def read(cls, usage: Mapping[str, Any]) -> Allowance | None:
        """From the server's answer; None where it names no limit, or is no such answer."""
        today, lifetime = _left(usage.get("today")), _left(usage.get("lifetime"))
        a_day = None if today is None else usage["today"]["limit"]
        if lifetime is not None and (today is None or lifetime <= today):
            return cls(lifetime, ever=lifetime, a_day=a_day)
        if today is None:
            return None
        resets = usage["today"].get("resets_at")
        until = resets if isinstance(resets, str) else None
        return cls(today, until=until, ever=lifetime, a_day=a_day)

    def spend(self, samples: int) -> None:
        """Take ``samples`` from what is left.

        Raises:
            OverBudget: there are not so many.
        """
        if samples > self.left:
            more = "this key will have no more" if self.until is None else f"more from {self.until}"
            raise OverBudget(
                f"the key's query budget is too small for this request: {self.left} samples are "
                f"left ({more}); every answer is on disk, go on with --resume",
                status=429,
            )
        self.left -= samples


@runtime_checkable
class Metered(Protocol):
    """A victim that may tell what its caller may still ask."""

    async def allowance(self) -> Allowance | None:
        """None where the victim does not tell, or does not count."""
        ...


class Purse:
    """An allowance that several requests spend at once, and that is read again when it runs out.

    A budget may begin anew while a theft goes on. It is read while nothing is in flight, because
    only then it is known what was charged.

    Args:
        allowance: at the beginning; None where there is no limit.
        read: what the server says now; None leaves it at ``allowance``.
    """

    def __init__(
        self,
        allowance: Allowance | None = None,
        read: Callable[[], Awaitable[Allowance | None]] | None = None,
    ) -> None:
        self._allowance = allowance
        self._read = read
        self._stale = False
        self._in_flight = 0
        self._spent: OverBudget | None = None
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def paying(self, samples: int, *, again: bool = False) -> AsyncIterator[None]:
        """While a request of ``samples`` is in flight.

        Args:
            samples: what it costs.
            again: it was sent before. A server that charged it knows it again and charges nothing;
                whether it did is read afterwards.

        Raises:
            OverBudget: there are not so many left, and no more were found.
            VictimError: the server does not say what is left.
        """
        async with self._changed:
            if again:
                self._stale = True
            else:
                await self._take(samples)
            self._in_flight += 1
        try:
            yield
        finally:
            async with self._changed:
                self._in_flight -= 1
                self._changed.notify_all()

    async def _take(self, samples: int) -> None:
        fresh = False
        while self._spent is None and self._allowance is not None:
            if fresh or (samples <= self._allowance.left and not self._stale):
                try:
                    self._allowance.spend(samples)
                except OverBudget as error:
                    self._spent = error
                break
            if self._in_flight:
                await self._changed.wait()
                continue
            if self._read is not None:
                # Not told just now is not the same as no limit: what was known last holds.
                self._allowance = await self._read() or self._allowance
            self._stale, fresh = False, True
            self._changed.notify_all()
        if self._spent is not None:
            raise self._spent


def _left(part: object) -> int | None:
    """Of one budget ``{"used": n, "limit": m}``."""
    if not isinstance(part, Mapping):
        return None
    used, limit = part.get("used"), part.get("limit")
    if type(used) is not int or type(limit) is not int:
        return None
    return max(0, limit - used)

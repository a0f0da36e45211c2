"""The ledger that replicas share, in Redis: every charge is one script, and so is every refund."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from server.callers.arrears import Arrears
from server.callers.ledger import (
    Again,
    Charge,
    Charged,
    Outcome,
    Pending,
    Stored,
    Used,
    over_budget,
)
from server.callers.ledger_scripts import CHARGE, GIVE_BACK, LEAVE, SETTLE
from server.callers.metrics import CallerMetrics
from server.callers.redis_link import RedisLink, passes
from server.errors import Conflict, StoreAway
from server.settings_callers import IdempotencySettings

__all__ = ["RedisLedger", "lifetimes_in"]

logger = logging.getLogger(__name__)

KEPT_S = 86_400
"""How long an open charge, or the name of one that was given back, is kept: longer than any outage
through which a server still wants to settle it."""

DAY_S = 86_400

LOOKED_UP = 500
"""Counts in one message: callers that are being charged come in between."""


@dataclass(frozen=True, slots=True)
class _End:
    """How a charge ended, if Redis has not heard of it yet.

    Attributes:
        how: it ended.
        charge: of the attempt that ends.
        paid_by: id of what paid for it.
        told: whether its caller was told that it is charged; see ``MemoryLedger.give_back_now``.
    """

    how: Literal["settled", "back", "left"]
    charge: Charge
    paid_by: str
    told: bool = True


class RedisLedger:
    """Implements ``server.callers.ledger.Ledger``.

    A charge without a reply may have been counted, or may be counted later, when a hanging Redis
    reads on. It is therefore given back under its name, until Redis has heard of that: so nothing
    is lost on a refused request, whichever of the two arrives first.

    Args:
        link: to Redis.
        settings: what of requests is remembered.
        metrics: told what was given back.
        lease_s: how long nobody else answers a request that one server is answering.
    """

    def __init__(
        self,
        link: RedisLink,
        settings: IdempotencySettings,
        metrics: CallerMetrics,
        *,
        lease_s: float,
    ) -> None:
        self._link = link
        self._settings = settings
        self._metrics = metrics
        self._lease_ms = round(1000 * lease_s)
        self._arrears: Arrears[_End] = Arrears(self._tell, metrics)
        register = link.client.register_script
        self._charge = register(CHARGE)
        self._give_back = register(GIVE_BACK)
        self._settle = register(SETTLE)

    async def start(self) -> None:
        """See ``Ledger``; the link is opened by whoever made it."""
        self._arrears.start()

    async def close(self) -> None:
        """See ``Ledger``."""
        await self._arrears.close()

    async def charge(self, charge: Charge) -> Outcome:
        """See ``Ledger``."""
        allowance = charge.allowance
        arguments: list[Any] = [
            charge.samples,
            -1 if allowance.per_day is None else allowance.per_day,
            -1 if allowance.lifetime is None else allowance.lifetime,
            KEPT_S,
            charge.id,
        ]
        if charge.once is not None:
            arguments += [
                charge.once.print,
                round(1000 * self._settings.window_s),
                self._lease_ms,
                self._settings.max_requests,
                charge.place,
                self._once(charge.identity, ""),
            ]
        asked = False

        async def ask() -> Sequence[Any]:
            nonlocal asked
            asked = True
            said: Sequence[Any] = await self._charge(self._keys(charge, charge.id), arguments)
            return said

        try:
            said = await self._link.call("budgets", ask)
        except (StoreAway, asyncio.CancelledError):
            if asked:  # and may have heard
                self._arrears.add(_End("back", charge, charge.id, told=False))
            raise
        return self._outcome(charge, said)

    def _outcome(self, charge: Charge, said: Sequence[Any]) -> Outcome:
        what, *rest = said
        if what == b"charged":
            return Charged(int(rest[0]), int(rest[1]))
        if what == b"over":
            today, lifetime, left = map(int, rest)
            refusal = over_budget(charge, today=today, lifetime=lifetime, until_midnight_s=left)
            assert refusal is not None
            raise refusal
        if what == b"conflict":
            raise Conflict
        if what == b"stored":
            return Stored(rest[0])
        if what == b"again":
            return Again(rest[0].decode(), bool(rest[1]))
        if what == b"pending":
            return Pending(int(rest[0]) / 1000)
        raise StoreAway  # void: a name that was drawn twice

    async def settle(self, charge: Charge, paid_by: str, answer: bytes | None) -> None:
        """See ``Ledger``. Without an idempotency key nobody waits for Redis to hear of it."""
        end = _End("settled", charge, paid_by)
        if charge.place is None:
            self._arrears.add(end)
            return
        keep = answer is not None and len(answer) <= self._settings.max_answer_bytes
        arguments = [charge.id, paid_by, *([answer] if keep else [])]
        keys = [self._name("charge", paid_by), self._once(charge.identity, charge.place)]
        try:
            await self._link.call("settling", lambda: self._settle(keys, arguments))
        except (StoreAway, asyncio.CancelledError) as error:
            # Without the answer: a replay is computed again then.
            self._arrears.add(end)
            if isinstance(error, asyncio.CancelledError):
                raise

    async def give_back(self, charge: Charge, paid_by: str) -> int:
        """See ``Ledger``."""
        keys, arguments = self._back(charge, paid_by)
        try:
            samples = await self._link.call("settling", lambda: self._give_back(keys, arguments))
        except (StoreAway, asyncio.CancelledError) as error:
            self._arrears.add(_End("back", charge, paid_by))
            if isinstance(error, asyncio.CancelledError):
                raise
            return charge.samples
        self._metrics.refunded(int(samples))
        return int(samples)

    def leave(self, charge: Charge, paid_by: str) -> None:
        """See ``Ledger``."""
        self._arrears.add(_End("left", charge, paid_by))

    async def used(self, identity: str) -> Used:
        """See ``Ledger``."""
        place = self._name("used", identity)

        async def look() -> tuple[list[bytes | None], tuple[int, int]]:
            async with self._link.client.pipeline(transaction=False) as pipeline:
                pipeline.hmget(place, "lifetime", "day", "today")
                pipeline.time()
                fields, clock = await pipeline.execute()
            return fields, clock

        (lifetime, day, today), clock = await self._link.call("usage", look)
        now = int(clock[0]) // DAY_S
        current = day is not None and int(day) >= now
        return Used(int(today or 0) if current else 0, int(lifetime or 0), now)

    async def _tell(self, ends: Sequence[_End]) -> list[_End]:
        """Let Redis hear of ``ends``, in one go; hearing of one twice changes nothing.

        Returns:
            Those that Redis is in no state to take. What it will never take is counted and dropped:
            the others must not wait for it.
        """

        async def together() -> list[Any]:
            async with self._link.client.pipeline(transaction=False) as pipeline:
                for end in ends:
                    self._say(pipeline, end)
                found: list[Any] = await pipeline.execute(raise_on_error=False)
                return found

        heard = await self._link.call("settling", together)
        again: list[_End] = []
        for end, said in zip(ends, heard, strict=True):
            if isinstance(said, Exception):
                self._metrics.failed("settling")
                if passes(said):
                    again.append(end)
                    continue
                self._metrics.lost()
                logger.error("callers: a charge is never settled (%s): %s", end.how, said)
            elif end.how == "back" and end.told:
                self._metrics.refunded(int(said))
        return again

    def _say(self, pipeline: Any, end: _End) -> None:
        charge, paid_by = end.charge, end.paid_by
        name = self._name("charge", paid_by)
        if end.how == "back":
            keys, arguments = self._back(charge, paid_by)
            pipeline.eval(GIVE_BACK, len(keys), *keys, *arguments)
        elif charge.place is None:
            pipeline.unlink(name)
        else:
            script = SETTLE if end.how == "settled" else LEAVE
            once = self._once(charge.identity, charge.place)
            pipeline.eval(script, 2, name, once, charge.id, paid_by)

    def _back(self, charge: Charge, paid_by: str) -> tuple[list[str], list[Any]]:
        return self._keys(charge, paid_by), [charge.id, paid_by, KEPT_S, charge.place or ""]

    def _keys(self, charge: Charge, paid_by: str) -> list[str]:
        return [
            self._name("used", charge.identity),
            self._name("charge", paid_by),
            self._once(charge.identity, charge.place or ""),
            self._name("onces", charge.identity),
        ]

    def _once(self, identity: str, place: str) -> str:
        return self._name("once", f"{identity}:{place}")

    def _name(self, kind: str, rest: str) -> str:
        return f"{self._link.prefix}:{kind}:{rest}"


async def lifetimes_in(link: RedisLink, identities: Sequence[str]) -> Sequence[int]:
    """Samples of each of ``identities`` ever; Redis is read, and nothing in it changes.

    Raises:
        StoreAway: it cannot be told now.
    """

    async def look(some: Sequence[str]) -> list[bytes | None]:
        async with link.client.pipeline(transaction=False) as pipeline:
            for identity in some:
                pipeline.hget(f"{link.prefix}:used:{identity}", "lifetime")
            found: list[bytes | None] = await pipeline.execute()
            return found

    counts: list[int] = []
    for start in range(0, len(identities), LOOKED_UP):
        some = identities[start : start + LOOKED_UP]
        found = await link.call("usage", partial(look, some))
        counts += (int(count or 0) for count in found)
    return counts

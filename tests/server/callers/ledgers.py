"""Ledgers of every kind, and what tests ask them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from server.admission import Allowance, Once
from server.callers.ledger import Charge, Ledger, Pending

A, B = "key-a", "key-b"

Open = Callable[..., AbstractAsyncContextManager[Ledger]]
"""The fixture ``opened``: opens a ledger, with settings of idempotency keys by name."""


def charge(
    samples: int, *, per_day: int | None = None, lifetime: int | None = None, **given: Any
) -> Charge:
    allowance = Allowance(per_day=per_day, lifetime=lifetime)
    return Charge(given.pop("identity", A), samples, allowance, **given)


def once(name: str = "first", body: bytes = b"body") -> Once:
    return Once(name, body)


async def used(ledger: Ledger, identity: str = A) -> tuple[int, int]:
    found = await ledger.used(identity)
    return found.today, found.lifetime


async def until(ledger: Ledger, replay: Charge) -> object:
    """The outcome once nobody works on it any more."""
    for _ in range(200):
        outcome = await ledger.charge(replay)
        if not isinstance(outcome, Pending):
            return outcome
        await asyncio.sleep(0.02)
    raise AssertionError("it is being answered for ever")

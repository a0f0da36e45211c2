"""One victim asked under several accounts: what one of them is refused, another asks for."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from attack_client.contract import BlackBox, ExplainedReply, Explaining, Reply, VictimFacts
from attack_client.errors import AdaptationError, OverBudget, ProtocolError, Refused
from attack_client.query_allowance import Metered

__all__ = ["PATIENCE_S", "SharedVictim", "Split"]

Split = Literal["even", "blocks"]

Sending = Callable[[], None] | None
Answer = TypeVar("Answer", Reply, ExplainedReply)

CLOSED = frozenset({401, 403})
"""Statuses that say that an account is of no more use."""

PATIENCE_S = 300.0
"""All waiting for one request together."""

REST_S = 60.0
"""How long an account rests that is over its limit, where the victim does not say."""


class SharedVictim:
    """A ``BlackBox`` over several, each of them the same victim under an account of its own.

    An account that is over its limit rests for as long as the victim says, and one that is
    refused for good (401, 403, or a budget for life that is used up) is not used again; another
    takes over what it was asked. Only when none is left to ask now, does this wait.

    Args:
        accounts: already open.
        split: ``even`` gives every request to the account that its idempotency key falls to, which
            is the same one after a kill; ``blocks`` uses up one account before the next.
        patience_s: all waiting for one request together.
        sleep: in place of ``asyncio.sleep``.
        clock: in place of ``time.monotonic``.

    Raises:
        AdaptationError: they are not one victim.
    """

    def __init__(
        self,
        accounts: Sequence[BlackBox],
        *,
        split: Split = "even",
        patience_s: float = PATIENCE_S,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not accounts or any(one.facts != accounts[0].facts for one in accounts):
            raise AdaptationError("several accounts must be accounts of one victim")
        self._accounts = tuple(accounts)
        self._split: Split = split
        self._patience_s = patience_s
        self._sleep = sleep
        self._clock = clock
        self._rested = [0.0] * len(accounts)
        self._closed: set[int] = set()
        self._turn = 0

    @property
    def facts(self) -> VictimFacts:
        """Of the victim, which is the same for all of them."""
        return self._accounts[0].facts

    async def query(
        self,
        images: NDArray[np.uint8],
        *,
        key: str | None = None,
        sending: Callable[[], None] | None = None,
    ) -> Reply:
        """Answer for ``images`` ``(n, C, H, W)``, from whichever account gives one.

        Raises:
            Refused: every account is closed, or over its limit for longer than it is waited for.
            VictimError: those of an account that are no matter of the account.
        """
        return await self._asked(
            len(images),
            key,
            sending,
            lambda one, told: one.query(images, key=key, sending=told),
        )

    async def explain(
        self,
        images: NDArray[np.uint8],
        *,
        key: str | None = None,
        sending: Callable[[], None] | None = None,
    ) -> ExplainedReply:
        """As ``query``, with a map for each image.

        Raises:
            ProtocolError: the victim cannot be asked for maps.
            VictimError: those of ``query``.
        """

        def ask(account: BlackBox, told: Sending) -> Awaitable[ExplainedReply]:
            if not isinstance(account, Explaining):
                raise ProtocolError(f"{account!r} cannot be asked for attribution maps")
            return account.explain(images, key=key, sending=told)

        return await self._asked(len(images), key, sending, ask)

    async def _asked(
        self,
        samples: int,
        key: str | None,
        sending: Sending,
        ask: Callable[[BlackBox, Sending], Awaitable[Answer]],
    ) -> Answer:
        """What ``ask`` gets of whichever account gives it."""
        first, sends, waited_s = self._first(key), 0, 0.0
        refusal: Refused | None = None
        stopped: list[Exception] = []

        def told() -> None:
            try:
                if sending is not None:
                    sending()
            except Exception as error:
                stopped.append(error)  # of whoever asks: it is no account's refusal
                raise

        while True:
            account = self._available(first)
            if account is None:
                pause_s = self._until_rested()
                if pause_s is None or waited_s + pause_s > self._patience_s:
                    raise self._spent(refusal) from refusal
                waited_s += pause_s
                await self._sleep(pause_s)
                continue
            try:
                reply = await ask(self._accounts[account], told)
            except OverBudget as error:
                if error in stopped:
                    raise
                if error.after_s is None and await self._used_up(account, samples):
                    self._closed.add(account)
                rest_s = REST_S if error.after_s is None else error.after_s
                self._rested[account] = self._clock() + rest_s
                refusal = error
            except Refused as error:
                if error in stopped or error.status not in CLOSED:
                    raise
                self._closed.add(account)
                refusal = error
            else:
                return replace(reply, sends=sends + reply.sends)
            sends += 1

    async def _used_up(self, account: int, samples: int) -> bool:
        """Whether a budget that never begins anew has less than ``samples`` left."""
        victim = self._accounts[account]
        left = await victim.allowance() if isinstance(victim, Metered) else None
        return left is not None and left.until is None and left.left < samples

    def _first(self, key: str | None) -> int:
        if self._split == "blocks":
            return 0
        if key is not None:
            return zlib.crc32(key.encode()) % len(self._accounts)
        self._turn += 1
        return (self._turn - 1) % len(self._accounts)

    def _available(self, first: int) -> int | None:
        now, count = self._clock(), len(self._accounts)
        for step in range(count):
            account = (first + step) % count
            if account not in self._closed and self._rested[account] <= now:
                return account
        return None

    def _until_rested(self) -> float | None:
        """Seconds until an account may be asked; None if all are closed."""
        open_ = set(range(len(self._accounts))) - self._closed
        if not open_:
            return None
        return max(0.0, min(self._rested[account] for account in open_) - self._clock())

    def _spent(self, refusal: Refused | None) -> Refused:
        count, closed = len(self._accounts), len(self._closed)
        sentence = f"none of {count} accounts may ask now ({closed} closed): {refusal}"
        pause_s = self._until_rested()
        if pause_s is None and not isinstance(refusal, OverBudget):
            return Refused(sentence, status=401 if refusal is None else refusal.status)
        return OverBudget(sentence, status=429, after_s=pause_s)

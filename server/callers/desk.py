"""The admission of callers with keys: a look-up, a rate and a budget, in that order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from datetime import UTC, datetime

from server.admission import Caller, Grant, Once, StaticKeys, Usage, presented_key
from server.callers.grants import AnsweredBefore, PaidGrant
from server.callers.key_store import KeyStore
from server.callers.keys import presented_id
from server.callers.ledger import DAY_S, Again, Charge, Charged, Ledger, Pending, Stored
from server.callers.metrics import CallerMetrics
from server.callers.rates import Rates
from server.errors import KeyStoreError, StoreAway, Unauthorized, Unavailable

__all__ = ["Desk"]

logger = logging.getLogger(__name__)

FIRST_LOOK_S = 0.02
LAST_LOOK_S = 0.25
"""Between which a replay looks, less and less often, whether the first request is answered."""


class Desk:
    """Implements ``server.admission.Admission`` for callers that are told apart.

    Args:
        rates: of callers.
        ledger: of their budgets.
        metrics: told of what is charged, and of what cannot be looked up.
        store: of keys; None: there are those of the configuration only.
        static: keys of the configuration, which have no limits; None: there are none.
    """

    def __init__(
        self,
        rates: Rates,
        ledger: Ledger,
        metrics: CallerMetrics,
        *,
        store: KeyStore | None = None,
        static: StaticKeys | None = None,
    ) -> None:
        self._store = store
        self._rates = rates
        self._ledger = ledger
        self._metrics = metrics
        self._static = static

    async def identify(self, headers: Mapping[str, str]) -> Caller:
        """Say whose key is presented.

        Raises:
            Unauthorized: none, or one that is unknown, revoked or expired: all alike.
            StoreAway: it cannot be looked up now.
        """
        presented = presented_key(headers)
        if presented is None:
            raise Unauthorized
        name = presented_id(presented)
        if name is None or self._store is None:
            if self._static is None:
                raise Unauthorized
            return await self._static.identify(headers)
        try:
            record = await self._store.find(name)
        except KeyStoreError as error:
            self._metrics.failed("keys")
            logger.error("callers: %s", error)
            raise StoreAway(retry_after=1.0) from error
        if record is None and self._static is not None:
            # A key that moved from the store to the configuration keeps its looks.
            return await self._static.identify(headers)
        now = datetime.now(UTC)
        if record is None or not record.matches(presented, now) or not record.usable(now):
            raise Unauthorized
        return record.caller()

    async def admit(
        self, caller: Caller, samples: int, once: Once | None = None, *, patience_s: float = 10.0
    ) -> Grant:
        """See ``Admission``. Replays take their share of the rate, and none of the budget."""
        until = asyncio.get_running_loop().time() + patience_s
        await self._rates.take(caller, samples)
        charge = Charge(caller.identity, samples, caller.allowance, once)
        outcome = await self._charged(charge, until)
        if isinstance(outcome, Charged):
            self._metrics.charged(samples)
            self._used(caller, outcome)
            return PaidGrant(self._ledger, charge)
        self._metrics.replayed()
        if isinstance(outcome, Stored):
            return AnsweredBefore(outcome.answer)
        return PaidGrant(self._ledger, charge, paid_by=outcome.id, paid=outcome.paid)

    async def _charged(self, charge: Charge, until: float) -> Charged | Again | Stored:
        """Count ``charge``, once nobody answers the same request any more."""
        loop = asyncio.get_running_loop()
        pause_s = FIRST_LOOK_S
        while isinstance(outcome := await self._ledger.charge(charge), Pending):
            # As long again is left for the look itself: cut off, it could not say why.
            if loop.time() + 2 * pause_s > until:
                raise Unavailable(
                    "the first request with this Idempotency-Key is still being answered",
                    retry_after=outcome.wait_s,
                )
            await asyncio.sleep(pause_s)
            pause_s = min(1.5 * pause_s, LAST_LOOK_S)
        return outcome

    async def usage(self, caller: Caller) -> Usage | None:
        """See ``Admission``."""
        used = await self._ledger.used(caller.identity)
        midnight = datetime.fromtimestamp((used.day + 1) * DAY_S, UTC)
        return Usage(used.today, used.lifetime, midnight)

    def _used(self, caller: Caller, outcome: Charged) -> None:
        allowance = caller.allowance
        for budget, used, limit in (
            ("day", outcome.today, allowance.per_day),
            ("lifetime", outcome.lifetime, allowance.lifetime),
        ):
            if limit is not None:
                self._metrics.used(budget, used / limit)

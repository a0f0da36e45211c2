"""The admission of callers with keys: a look-up, a rate and a budget, in that order."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime

from server.admission import Caller, Grant, KeyAdmission, Once, presented_key
from server.callers.key_store import KeyStore, KeyStoreError
from server.callers.keys import presented_id
from server.callers.metrics import CallerMetrics
from server.callers.rates import Rates
from server.errors import StoreAway, Unauthorized

__all__ = ["Desk"]

logger = logging.getLogger(__name__)


class Desk:
    """Implements ``server.admission.Admission`` for keys in a store.

    Args:
        store: of keys.
        rates: of callers.
        metrics: told of what cannot be looked up.
        static: keys of the configuration, which have no limits; None: there are none.
    """

    def __init__(
        self,
        store: KeyStore,
        rates: Rates,
        metrics: CallerMetrics,
        *,
        static: KeyAdmission | None = None,
    ) -> None:
        self._store = store
        self._rates = rates
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
        if name is None:
            if self._static is None:
                raise Unauthorized
            return await self._static.identify(headers)
        try:
            record = await self._store.find(name)
        except KeyStoreError as error:
            self._metrics.failed("keys")
            logger.error("callers: %s", error)
            raise StoreAway(retry_after=1.0) from error
        now = datetime.now(UTC)
        if record is None or not record.matches(presented, now) or not record.usable(now):
            raise Unauthorized
        return record.caller()

    async def admit(self, caller: Caller, samples: int, once: Once | None = None) -> Grant:
        """See ``Admission``."""
        del once
        await self._rates.take(caller, samples)
        return Grant()

"""From the settings to whoever decides about callers."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry

from server.admission import Admission, OpenAdmission, StaticKeys
from server.callers.authority import AdminAuthority
from server.callers.desk import Desk
from server.callers.key_file import KeyFile
from server.callers.key_redis import RedisKeys
from server.callers.key_store import KeyStore
from server.callers.ledger import Ledger
from server.callers.ledger_file import FileLedger
from server.callers.ledger_memory import MemoryLedger
from server.callers.ledger_redis import RedisLedger
from server.callers.metrics import CallerMetrics
from server.callers.rates import Rates
from server.callers.redis_link import RedisLink
from server.errors import ConfigurationError, KeyStoreError
from server.settings import Settings

__all__ = ["Callers", "build_callers", "ledger_file", "open_key_store"]

LEASE_MARGIN_S = 2.0


@dataclass(frozen=True, slots=True)
class Callers:
    """Whoever decides about callers.

    Attributes:
        admission: on the callers' port.
        authority: on the operator's.
        metrics: of what they decide.
        link: to Redis, if there is one.
        ledger: of budgets, if there are any.
        keys: in a file, if they are kept in one.
    """

    admission: Admission
    authority: AdminAuthority
    metrics: CallerMetrics
    link: RedisLink | None = None
    ledger: Ledger | None = None
    keys: KeyFile | None = None

    async def start(self) -> None:
        """Open what is kept elsewhere.

        Raises:
            ConfigurationError: it cannot be used; names the key.
        """
        if self.keys is not None:
            try:
                # None yet is no mistake; one that cannot be read would let nobody in.
                await self.keys.records()
            except KeyStoreError as error:
                raise ConfigurationError(f"callers.file: {error}") from error
        if self.link is not None:
            await self.link.start()
        if self.ledger is not None:
            await self.ledger.start()

    async def close(self) -> None:
        """Close it again."""
        if self.ledger is not None:
            await self.ledger.close()
        if self.link is not None:
            await self.link.close()


def build_callers(settings: Settings, registry: CollectorRegistry | None = None) -> Callers:
    """Assemble what ``settings`` ask for; opens nothing.

    Args:
        settings: of the whole server.
        registry: where metrics are registered; None: nowhere that is looked at.

    Raises:
        ConfigurationError: something that is asked for is not there; names the key.
    """
    static = None
    if settings.api_keys:
        static = StaticKeys(key.get_secret_value() for key in settings.api_keys)
    in_redis = settings.callers.store == "redis"
    metrics = CallerMetrics(registry or CollectorRegistry(), redis=in_redis)
    if settings.open_to_all:
        return Callers(OpenAdmission(), AdminAuthority(None), metrics)
    link = RedisLink(settings.redis, metrics) if in_redis else None
    ledger = _ledger(settings, metrics, link)
    kept = settings.callers.store != "open"
    store = _key_store(settings, link) if kept else None
    desk = Desk(
        Rates(link),
        ledger,
        metrics,
        store=store,
        static=static,
    )
    authority = AdminAuthority(desk if kept else None)
    keys = store if isinstance(store, KeyFile) else None
    return Callers(desk, authority, metrics, link, ledger, keys)


def ledger_file(settings: Settings) -> Path:
    """Where the ledger of ``callers.store: file`` lies."""
    return settings.callers.ledger or settings.state_dir / "ledger.jsonl"


def _ledger(settings: Settings, metrics: CallerMetrics, link: RedisLink | None) -> Ledger:
    if link is not None:
        # Whoever has not answered by then never will: its deadline has passed.
        lease_s = settings.batching.deadline_s + LEASE_MARGIN_S
        return RedisLedger(link, settings.idempotency, metrics, lease_s=lease_s)
    if settings.callers.store == "file":
        path = ledger_file(settings)
        if os.path.realpath(path) == os.path.realpath(_key_file(settings)):
            raise ConfigurationError(
                f"callers.ledger: {path} is the file of the keys (callers.file): each needs its own"
            )
        return FileLedger(path, settings.idempotency, metrics)
    return MemoryLedger(settings.idempotency, metrics)


@asynccontextmanager
async def open_key_store(settings: Settings) -> AsyncIterator[KeyStore]:
    """The keys alone, for a command that changes them.

    Raises:
        ConfigurationError: the settings keep none, or where they keep them cannot be used.
    """
    if settings.callers.store == "open":
        raise ConfigurationError(
            "callers.store: open keeps no keys; set it to file or redis, here and for the server "
            "(INTAGLIO_CALLERS__STORE=file)"
        )
    if settings.callers.store == "file":
        yield _key_store(settings, None)
        return
    link = RedisLink(settings.redis, CallerMetrics(CollectorRegistry()))
    try:
        yield _key_store(settings, link)
    finally:
        await link.close()


def _key_store(settings: Settings, link: RedisLink | None) -> KeyStore:
    if link is not None:
        return RedisKeys(link)
    return KeyFile(_key_file(settings))


def _key_file(settings: Settings) -> Path:
    return settings.callers.file or settings.state_dir / "keys.json"

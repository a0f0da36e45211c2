"""What callers have used of their lifetime budgets, for who looks from beside the servers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry

from server.callers.assembly import ledger_file
from server.callers.ledger_file import FileLedger
from server.callers.ledger_redis import lifetimes_in
from server.callers.metrics import CallerMetrics
from server.callers.redis_link import RedisLink
from server.errors import ConfigurationError, StoreAway
from server.settings import Settings

__all__ = ["lifetimes"]


async def lifetimes(settings: Settings, identities: Sequence[str]) -> Mapping[str, int]:
    """Samples of each of ``identities`` ever, without disturbing a server that counts them.

    Redis is asked, and of a file what is on the disk is read: a charge is there before its answer
    leaves. A request that is being answered counts, and counts no more if it fails.

    Raises:
        ConfigurationError: there is no ledger, it cannot be read, or Redis does not answer.
    """
    metrics = CallerMetrics(CollectorRegistry())
    if settings.callers.store == "redis":
        link = RedisLink(settings.redis, metrics)
        try:
            found = await lifetimes_in(link, identities)
        except StoreAway as error:
            raise ConfigurationError(f"redis: it does not answer: {error.__cause__}") from error
        finally:
            await link.close()
        return dict(zip(identities, found, strict=True))
    ledger = FileLedger(ledger_file(settings), settings.idempotency, metrics)
    ledger.look()
    return {identity: (await ledger.used(identity)).lifetime for identity in identities}

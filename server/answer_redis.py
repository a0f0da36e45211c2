"""Answers kept in Redis, for every replica; Redis bounds their number by its own ``maxmemory``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from server.answer_cache_metrics import AnswerCacheMetrics
from server.callers.redis_link import RedisLink
from server.errors import StoreAway

__all__ = ["RedisAnswers"]


class RedisAnswers:
    """An ``AnswerStore`` that fails open: while Redis is away every answer is computed.

    A Redis that does not answer costs one timeout of the link, and then nothing for a while.

    Args:
        link: to Redis.
        ttl_s: how long each answer is kept.
        metrics: told of calls that failed.
    """

    def __init__(self, link: RedisLink, *, ttl_s: float, metrics: AnswerCacheMetrics) -> None:
        self._link = link
        self._ttl_ms = max(1, round(ttl_s * 1000))
        self._metrics = metrics

    async def get(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """See ``AnswerStore``."""
        names = [self._name(key) for key in keys]
        try:
            found: Sequence[bytes | None] = await self._link.call(
                "cache", lambda: self._link.client.mget(names)
            )
        except StoreAway:
            self._metrics.failed()
            return [None] * len(keys)
        return found

    async def put(self, answers: Mapping[bytes, bytes]) -> None:
        """See ``AnswerStore``."""
        batch = self._link.client.pipeline(transaction=False)
        for key, answer in answers.items():
            batch.set(self._name(key), answer, px=self._ttl_ms)
        try:
            await self._link.call("cache", batch.execute)
        except StoreAway:
            self._metrics.failed()

    async def close(self) -> None:
        """Close the connections; what is kept stays."""
        await self._link.close()

    def _name(self, key: bytes) -> str:
        return f"{self._link.prefix}:answer:{key.hex()}"

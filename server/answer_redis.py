"""Answers kept in Redis, for every replica; Redis bounds their number by its own ``maxmemory``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from server.answer_cache_metrics import AnswerCacheMetrics
from server.callers.redis_link import RedisLink
from server.errors import StoreAway

__all__ = ["RedisAnswers"]


LOOK_S = 1.0
"""How long Redis is taken to have room once it was seen to have it."""


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
        self._room_until = 0.0

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
        try:
            if not await self._room():
                return
            batch = self._link.client.pipeline(transaction=False)
            for key, answer in answers.items():
                batch.set(self._name(key), answer, px=self._ttl_ms)
            await self._link.call("cache", batch.execute)
        except StoreAway:
            self._metrics.failed()

    async def _room(self) -> bool:
        """Whether Redis has room for more answers: half of its memory is left to keys and budgets.

        They may share it, nothing there is evicted, and a full Redis would refuse every caller.
        """
        if time.monotonic() < self._room_until:
            return True
        told = await self._link.call("cache", lambda: self._link.client.info("memory"))
        most = int(told.get("maxmemory", 0))
        if most and int(told.get("used_memory", 0)) > most // 2:
            return False
        self._room_until = time.monotonic() + LOOK_S
        return True

    async def close(self) -> None:
        """Close the connections; what is kept stays."""
        await self._link.close()

    def _name(self, key: bytes) -> str:
        return f"{self._link.prefix}:answer:{key.hex()}"

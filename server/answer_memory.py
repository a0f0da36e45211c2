"""Answers kept in this process: the least recently used leave first, and all leave in time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cachetools import TTLCache

from server.answer_cache_metrics import AnswerCacheMetrics

__all__ = ["OVERHEAD", "MemoryAnswers"]

OVERHEAD = 400
"""Bytes that an answer takes besides itself: its key, and its place in three tables."""


class MemoryAnswers:
    """An ``AnswerStore`` of bounded size; belongs to one event loop.

    Args:
        max_bytes: of all answers together, with what keeping them takes.
        ttl_s: how long each is kept.
        metrics: told how much is kept.
    """

    def __init__(self, *, max_bytes: int, ttl_s: float, metrics: AnswerCacheMetrics) -> None:
        self._metrics = metrics
        self._answers: TTLCache[bytes, bytes] = TTLCache(
            max_bytes, ttl_s, getsizeof=lambda answer: len(answer) + OVERHEAD
        )

    async def get(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """See ``AnswerStore``."""
        return [self._answers.get(key) for key in keys]

    async def put(self, answers: Mapping[bytes, bytes]) -> None:
        """See ``AnswerStore``; an answer larger than all may be is not kept."""
        for key, answer in answers.items():
            if len(answer) + OVERHEAD <= self._answers.maxsize:
                self._answers[key] = answer
        self._metrics.holds(self._answers.currsize)

    async def close(self) -> None:
        """Forget everything."""
        self._answers.clear()

"""From the settings to a cache of answers, if they want one."""

from __future__ import annotations

import logging

from prometheus_client import CollectorRegistry

from server.answer_cache import AnswerCache, AnswerStore
from server.answer_cache_metrics import AnswerCacheMetrics
from server.answer_memory import MemoryAnswers
from server.errors import ConfigurationError
from server.evidence import Evidence
from server.settings import Settings

__all__ = ["build_answer_cache"]

logger = logging.getLogger(__name__)


def build_answer_cache(
    settings: Settings,
    *,
    secret: bytes,
    registry: CollectorRegistry,
    evidence: Evidence | None = None,
) -> AnswerCache | None:
    """The cache that ``settings`` ask for, or None; what it gives away is logged.

    Raises:
        ConfigurationError: it shall be in Redis, and there is no client library or password; or
            callers are not told apart, and nobody has said that they share answers.
    """
    wanted = settings.cache
    if wanted.backend == "off":
        return None
    if settings.open_to_all and not wanted.shared:
        raise ConfigurationError(
            "cache.shared: without API keys all callers share what is kept, and how long an answer "
            "takes tells each what others asked: set it to true if that is meant, or keep nothing "
            "(cache.backend: off)"
        )
    metrics = AnswerCacheMetrics(registry)
    store: AnswerStore
    if wanted.backend == "redis":
        # Not before it is wanted: most servers have no Redis.
        from server.answer_redis import RedisAnswers
        from server.callers.metrics import CallerMetrics
        from server.callers.redis_link import RedisLink

        # A link of its own: an answer that is slow to come must not make callers wait for theirs.
        link = RedisLink(settings.redis, CallerMetrics(CollectorRegistry()))
        store = RedisAnswers(link, ttl_s=wanted.ttl_s, metrics=metrics)
    else:
        store = MemoryAnswers(max_bytes=wanted.max_bytes, ttl_s=wanted.ttl_s, metrics=metrics)
    logger.warning(
        "cache: how long an answer takes tells whether %s asked about that image before",
        "any caller" if wanted.shared else "the same caller",
    )
    return AnswerCache(
        store, secret=secret, shared=wanted.shared, metrics=metrics, evidence=evidence
    )

"""The one way to Redis: every call has a deadline, and an outage costs one, not one a request."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from server.callers.lateness import Lateness
from server.callers.metrics import CallerMetrics
from server.callers.redis_client import redis_client
from server.errors import ConfigurationError, StoreAway
from server.settings_callers import RedisSettings

__all__ = ["RedisLink", "passes"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

LEFT_ALONE_S = 0.2
"""How long nobody waits for Redis after it did not answer: requests are refused at once instead."""

CROWDED_SAID_S = 60.0
"""How often it is logged that all connections are in use, at most."""

LOOKED_AFTER_S = 1.0
"""How often an idle process looks whether Redis is there, for the operator's gauge."""

SOONEST_S = 0.005
"""How often it is looked how late the event loop is, at most."""

LATE_SHARE = 0.5
"""Part of the time that Redis has to answer: a timeout while the event loop ran late by as much
tells of the loop, not of Redis. The answer may have come, and nobody looked."""

MOST_DOUBTS = 3
"""Such timeouts in a row, each begun after the one before, that are not held against Redis: a loop
that is always late must not hide that Redis is away."""


STATES = re.compile(
    r"\b(OOM|READONLY|MISCONF|NOREPLICAS|MASTERDOWN|BUSY|LOADING|NOPERM|CLUSTERDOWN|TRYAGAIN)\b"
)
"""What Redis complains of when it is itself that is not well, also from within a script."""


def passes(error: Exception) -> bool:
    """Whether Redis may take tomorrow what it refused with ``error``: its state was at fault."""
    from redis.exceptions import (
        ClusterDownError,
        NoPermissionError,
        OutOfMemoryError,
        ReadOnlyError,
        TryAgainError,
    )

    # The client cuts off the codes that it has classes for.
    known = (ClusterDownError, NoPermissionError, OutOfMemoryError, ReadOnlyError, TryAgainError)
    return isinstance(error, known) or STATES.search(str(error)) is not None


class RedisLink:
    """A pool of connections that gives up early and comes back by itself.

    Whoever finds all connections in use waits in line, for no longer than asking may take, and is
    refused then. That is no outage: Redis was not asked, and stays the others' to ask.

    Belongs to one event loop.

    Args:
        settings: with a ``url``.
        metrics: told whether Redis answers, and what for when it does not.

    Raises:
        ConfigurationError: there can be no client with these settings; see ``redis_client``.
    """

    def __init__(self, settings: RedisSettings, metrics: CallerMetrics) -> None:
        assert settings.url is not None
        self.prefix = settings.prefix
        self._metrics = metrics
        self._timeout_s = settings.timeout_ms / 1000
        self._turns = asyncio.Semaphore(settings.connections)
        self._crowded_said_at = -math.inf
        self._lateness = Lateness(max(SOONEST_S, self._timeout_s / 10))
        self._doubts = 0
        self._doubted_at = 0.0
        self._leave_alone_until = 0.0
        self._away = False
        self._pinger: asyncio.Task[None] | None = None
        self.client: Any = redis_client(settings)
        self.pool: Any = self.client.connection_pool

    async def call(self, function: str, work: Callable[[], Awaitable[T]]) -> T:
        """What ``work`` gets from Redis.

        Args:
            function: what for, out of ``server.callers.metrics.FUNCTIONS``.
            work: makes one or a few calls of ``client``.

        Raises:
            StoreAway: Redis does not answer, or was not asked: it did not answer a moment ago, or
                all connections are in use. What was not asked has not called ``work``.
        """
        self._not_left_alone(function)
        await self._turn(function)
        try:
            # While this waited in line, others may have found out.
            self._not_left_alone(function)
            return await self._asked(function, work)
        finally:
            self._turns.release()

    def _not_left_alone(self, function: str) -> None:
        if time.monotonic() < self._leave_alone_until:
            self._metrics.failed(function)
            raise StoreAway(retry_after=1.0)

    async def _turn(self, function: str) -> None:
        """Wait for a connection, first come, first served."""
        try:
            async with asyncio.timeout(2 * self._timeout_s):
                await self._turns.acquire()
        except TimeoutError:
            self._metrics.failed(function)
            now = time.monotonic()
            if now - self._crowded_said_at >= CROWDED_SAID_S:
                logger.warning("all connections to Redis are in use (redis.connections)")
                self._crowded_said_at = now
            raise StoreAway(retry_after=1.0) from None

    async def _asked(self, function: str, work: Callable[[], Awaitable[T]]) -> T:
        from redis.exceptions import RedisError

        began = time.monotonic()
        with self._lateness.watch() as late_s:
            try:
                # One budget for all of it: connecting, and asking.
                async with asyncio.timeout(2 * self._timeout_s):
                    found = await work()
            except (RedisError, OSError, TimeoutError) as error:
                self._metrics.failed(function)
                if not self._in_doubt(error, began, late_s()):
                    self._lost(error)
                raise StoreAway(retry_after=1.0) from error
        self._found()
        return found

    def _in_doubt(self, error: Exception, began: float, late_s: float) -> bool:
        """Whether ``error`` may be the fault of an event loop that was late."""
        from redis.exceptions import TimeoutError as NoReply

        if self._away:
            return False
        if not isinstance(error, (NoReply, TimeoutError)):
            return False
        if late_s < LATE_SHARE * self._timeout_s:
            return False
        # Those that were under way together are one.
        if began >= self._doubted_at:
            self._doubts += 1
            self._doubted_at = time.monotonic()
            if self._doubts <= MOST_DOUBTS:
                logger.warning(
                    "Redis was not heard in time: the event loop was %.2f s late", late_s
                )
        return self._doubts <= MOST_DOUBTS

    def _lost(self, error: Exception) -> None:
        from redis.exceptions import ResponseError

        # It answered, if only to complain: it is out of memory, say, or still loading its file.
        if not isinstance(error, ResponseError):
            self._leave_alone_until = time.monotonic() + LEFT_ALONE_S
        if not self._away:
            logger.error("Redis is away: %s", _said(error))
        self._away = True
        self._metrics.redis_up(False)

    def _found(self) -> None:
        if self._away:
            logger.warning("Redis is there again")
        self._away = False
        self._doubts = 0
        self._leave_alone_until = 0.0
        self._metrics.redis_up(True)

    async def start(self) -> None:
        """Begin to look after Redis.

        Raises:
            ConfigurationError: it does not answer now; a server that could let nobody in had
                better not start.
        """
        try:
            await self.call("keys", self.client.ping)
        except StoreAway as error:
            raise ConfigurationError(
                f"redis.url: Redis does not answer: {_said(error.__cause__ or error)}"
            ) from error
        self._pinger = asyncio.create_task(self._look_after())

    async def _look_after(self) -> None:
        while True:
            await asyncio.sleep(LOOKED_AFTER_S)
            with contextlib.suppress(StoreAway):  # counted, logged and shown by the gauge
                await self.call("ping", self.client.ping)

    async def close(self) -> None:
        """Close every connection."""
        if self._pinger is not None:
            self._pinger.cancel()
            # Bounded: no client library may keep a server from stopping.
            await asyncio.wait({self._pinger}, timeout=LOOKED_AFTER_S)
        await self.client.aclose()
        await self.pool.disconnect()


def _said(error: BaseException) -> str:
    """What ``error`` says; its kind where that is nothing."""
    return str(error) or type(error).__name__

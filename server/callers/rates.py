"""Rate limits: how many samples a caller may ask in a while, by the library ``limits``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from server.admission import Caller
from server.callers.redis_link import RedisLink
from server.errors import CallerOverLimit, TooLarge

if TYPE_CHECKING:
    from limits.aio.storage import MemoryStorage, RedisStorage

__all__ = ["Rates"]


class Rates:
    """A sliding window for each caller, of ``burst`` samples in ``burst / rate`` seconds.

    The library's sliding window counter: two counters for each caller, whatever the rate, and one
    atomic step in Redis. It takes the samples of the window before for evenly spread, so a caller
    that comes in bursts may be let in early, or kept waiting longer: in the worst case, a burst at
    the end of one window and one at the end of the next, almost twice ``burst`` in one window. An
    exact one would remember every sample. A refused request takes nothing.

    Args:
        link: to the Redis that replicas share; None: in memory.
    """

    def __init__(self, link: RedisLink | None) -> None:
        from limits import RateLimitItemPerSecond
        from limits.aio.storage import MemoryStorage, RedisStorage
        from limits.aio.strategies import SlidingWindowCounterRateLimiter

        self._item = RateLimitItemPerSecond
        self._link = link
        self._storage: MemoryStorage | RedisStorage
        if link is None:
            self._storage = MemoryStorage()
        else:
            self._storage = RedisStorage(
                "async+redis://",
                implementation="redispy",
                key_prefix=f"{link.prefix}:rate",
                connection_pool=link.pool,
            )
        self._limiter = SlidingWindowCounterRateLimiter(self._storage)

    async def take(self, caller: Caller, samples: int) -> None:
        """Count ``samples`` now.

        Raises:
            TooLarge: more than the caller's burst, so that no waiting would help.
            CallerOverLimit: not now; says when.
            StoreAway: the counters cannot be reached.
        """
        rate, burst = caller.allowance.rate, caller.allowance.burst
        if rate is None or burst is None:
            return
        if samples > burst:
            raise TooLarge(
                f"this API key may ask {burst} samples at once, and this request counts as "
                f"{samples}: ask for fewer images at a time"
            )
        window_s = round(burst / rate)
        item = self._item(burst, window_s)

        async def hit() -> float | None:
            if await self._limiter.hit(item, caller.identity, cost=samples):
                return None
            # The library tells when the next sample fits; this caller waits for all of its own.
            window = await self._storage.get_sliding_window(item.key_for(caller.identity), window_s)
            return _until_room(window, samples, burst, window_s)

        wait_s = await (hit() if self._link is None else self._link.call("rates", hit))
        if wait_s is not None:
            raise CallerOverLimit(
                f"this API key may ask {rate:g} samples a second, {burst} at once",
                retry_after=wait_s,
            )


def _until_room(
    window: tuple[int, float, int, float], samples: int, limit: int, window_s: int
) -> float:
    """Seconds until ``samples`` fit, if nothing else is asked meanwhile.

    Args:
        window: samples of the previous window, seconds until it counts no more, samples of the
            current one, seconds until that counts no more.
        samples: to be asked.
        limit: samples in a window.
        window_s: its length.
    """
    previous, previous_left, current, current_left = window
    room = limit - samples
    if current <= room:
        return max(0.0, previous_left - (room - current) * window_s / max(previous, 1))
    # Not before the current window has become the previous one, and has faded far enough.
    return max(0.0, current_left - window_s) + window_s * (1 - room / current)

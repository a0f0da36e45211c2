"""Rate limits, in samples."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from benchmarks.redis_server import RedisServer
from server.admission import Allowance, Caller
from server.callers.rates import Rates, _until_room
from server.errors import CallerOverLimit, TooLarge
from tests.server.callers.conftest import linked

pytestmark = pytest.mark.anyio

# A long window: what happens in a test happens within it.
SLOW = Caller("key-a", allowance=Allowance(rate=0.01, burst=100))


@pytest.fixture(params=["memory", "redis"])
def kind(request: pytest.FixtureRequest) -> RedisServer | None:
    if request.param == "memory":
        return None
    server: RedisServer = request.getfixturevalue("redis_server")
    return server


@asynccontextmanager
async def rates(kind: RedisServer | None) -> AsyncIterator[Rates]:
    if kind is None:
        yield Rates(None)
        return
    async with linked(kind) as link:
        yield Rates(link)


async def test_samples_are_counted_and_a_refusal_counts_none(kind: RedisServer | None) -> None:
    async with rates(kind) as limits:
        await limits.take(SLOW, 60)
        for _ in range(3):
            with pytest.raises(CallerOverLimit, match=r"0\.01 samples a second, 100 at once"):
                await limits.take(SLOW, 41)
        await limits.take(SLOW, 40)
        with pytest.raises(CallerOverLimit) as refused:
            await limits.take(SLOW, 1)
        assert refused.value.retry_after is not None
        # The window of 10,000 s in which they were asked, and a hundredth of the next.
        assert 0 < refused.value.retry_after < 20_000
        await limits.take(Caller("key-b", allowance=SLOW.allowance), 100)


async def test_what_never_fits_is_too_large(kind: RedisServer | None) -> None:
    async with rates(kind) as limits:
        with pytest.raises(TooLarge, match=r"may ask 100 samples at once, .* counts as 101"):
            await limits.take(SLOW, 101)


async def test_without_a_limit_nothing_is_counted(kind: RedisServer | None) -> None:
    async with rates(kind) as limits:
        for _ in range(10):
            await limits.take(Caller("key-a"), 10**9)


async def test_callers_at_once_get_no_more_than_there_is(kind: RedisServer | None) -> None:
    async with rates(kind) as limits:
        taken = await asyncio.gather(
            *(limits.take(SLOW, 3) for _ in range(50)), return_exceptions=True
        )
    assert sum(error is None for error in taken) == 33
    assert sum(isinstance(error, CallerOverLimit) for error in taken) == 17


async def test_whoever_waits_as_long_as_it_is_told_is_let_in(kind: RedisServer | None) -> None:
    quick = Caller("key-a", allowance=Allowance(rate=20.0, burst=20))
    async with rates(kind) as limits:
        await limits.take(quick, 20)
        with pytest.raises(CallerOverLimit) as refused:
            await limits.take(quick, 10)
        assert refused.value.retry_after is not None
        assert refused.value.retry_after < 2
        await asyncio.sleep(refused.value.retry_after + 0.05)
        await limits.take(quick, 10)


@pytest.mark.parametrize(
    ("window", "samples", "wait_s"),
    [
        # 100 samples in 10 s: half of the previous window's 80 still count.
        ((80, 5.0, 60, 15.0), 1, 5.0 - 39 * 10 / 80),
        ((0, 0.0, 100, 14.0), 20, 4.0 + 2.0),
        ((0, 0.0, 100, 14.0), 100, 4.0 + 10.0),
        ((50, 0.0, 0, 0.0), 100, 0.0),
    ],
)
def test_when_there_will_be_room(
    window: tuple[int, float, int, float], samples: int, wait_s: float
) -> None:
    assert _until_room(window, samples, 100, 10) == pytest.approx(wait_s)

"""What honest callers are served, measured through the API.

Honest queries are an operator's, made under an operator's key; they are counted apart from the
attack's.
"""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from attack_client.contract import BlackBox
from attack_client.predictions import agreement
from attack_client.victim_input import TestSet

__all__ = ["Honest", "measure_honest", "queries_of", "time_again"]

WARM_UP = 5
"""Single-image requests before latency is measured: connections and caches are cold."""

DISTURBED = 4
"""A latency is measured if no more than one request for so many had to be sent again."""


def queries_of(images: int, *, latency_requests: int) -> int:
    """Honest queries that a test set of so many ``images`` takes, if none is sent again.

    Of no images, those that a latency takes alone.
    """
    return images + (WARM_UP + latency_requests if latency_requests else 0)


@dataclass(frozen=True, slots=True, eq=False)
class Honest:
    """What a caller who means no harm is served.

    Attributes:
        served: ``(N, K)`` float32, the answers on the test set.
        accuracy: share of test images answered right.
        latency_p50_ms: median of sequential single-image requests that were answered at the first
            attempt; None if there were none, or not enough.
        latency_p99_ms: 99th percentile of the same.
        queries: honest queries it took to know this.
        disturbed: timed requests that were answered only after they had been sent again: they
            waited for a rate limit or for a full server, and are in no figure.
    """

    served: NDArray[np.float32]
    accuracy: float
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    queries: int
    disturbed: int = 0

    @property
    def untimed(self) -> bool:
        """Whether a latency was to be measured, and could not be."""
        return self.disturbed > 0 and self.latency_p50_ms is None


async def measure_honest(
    victim: BlackBox,
    test: TestSet,
    *,
    latency_requests: int = 200,
    batch: int = 64,
    concurrency: int = 4,
    run: uuid.UUID | None = None,
    watch: Callable[[int, int], None] | None = None,
) -> Honest:
    """Query the whole test set in batches, then single images one after another for latency.

    Batches have idempotency keys, so that one that is sent again is paid for once. Requests that
    are timed have none: they are to cost what a caller's own would.

    Args:
        victim: open, under an operator's key.
        test: every image of it is asked about once.
        latency_requests: single-image requests that are timed, from the caller's call to the
            decoded answer; 0 measures no latency. One that had to be sent again waited for
            something that is no part of an answer: another is timed in its place. Where that
            happens to more than one for ``DISTURBED`` there is no latency.
        batch: images per request of the first part at most, as in ``steal``.
        concurrency: requests in flight of the first part.
        run: names what is measured: where it is measured again after a kill, a server that knows
            idempotency keys charges for no batch twice. Another run must have another name, for
            what it is answered may have changed.
        watch: told ``(done, total)`` queries.

    Raises:
        VictimError: there is no answer.
    """
    count = len(test.images)
    batch = victim.facts.images_per_request(batch)
    singles = queries_of(0, latency_requests=latency_requests)
    served: list[NDArray[np.float32]] = []
    done = 0

    def advance(queries: int) -> None:
        nonlocal done
        done += queries
        if watch is not None:
            watch(done, count + singles)

    named = run or uuid.uuid4()
    slots = asyncio.Semaphore(concurrency)

    async def ask(start: int) -> NDArray[np.float32]:
        async with slots:
            images = test.images[start : start + batch]
            key = uuid.uuid5(named, f"{start}+{len(images)}").hex
            reply = await victim.query(images, key=f"honest-{key}")
            advance(len(images))
            return reply.probabilities

    requests = [asyncio.ensure_future(ask(start)) for start in range(0, count, batch)]
    try:
        served = list(await asyncio.gather(*requests))
    except BaseException:
        for request in requests:
            request.cancel()
        raise

    answers = np.concatenate(served)
    told = Honest(
        served=answers,
        accuracy=agreement(answers, test.labels),
        latency_p50_ms=None,
        latency_p99_ms=None,
        queries=count,
    )
    return await time_again(victim, test, told, latency_requests=latency_requests, watch=watch)


async def time_again(
    victim: BlackBox,
    test: TestSet,
    honest: Honest,
    *,
    latency_requests: int,
    watch: Callable[[int, int], None] | None = None,
) -> Honest:
    """``honest`` with the latency of single images, which are asked one after another.

    Args:
        victim: open, under an operator's key.
        test: what is asked about in turn.
        honest: what was served; its own latency, if any, is replaced.
        latency_requests: as in ``measure_honest``.
        watch: told ``(done, total)`` queries, those of ``honest`` included.

    Raises:
        VictimError: there is no answer.
    """
    done, disturbed = honest.queries, 0
    total = done + queries_of(0, latency_requests=latency_requests)
    numbers = itertools.count()

    def advance() -> None:
        nonlocal done
        done += 1
        if watch is not None:
            watch(done, total + disturbed)

    async def ask_one() -> float | None:
        """Seconds of one request; None where they are not its own."""
        image = test.images[next(numbers) % len(test.images)][np.newaxis]
        began = time.perf_counter()
        reply = await victim.query(image)
        return time.perf_counter() - began if reply.sends == 1 else None

    seconds: list[float] = []
    if latency_requests:
        for _ in range(WARM_UP):
            await ask_one()
            advance()
    while len(seconds) < latency_requests and disturbed * DISTURBED <= latency_requests:
        took = await ask_one()
        if took is None:
            disturbed += 1
        else:
            seconds.append(took)
        advance()
    known = bool(seconds) and len(seconds) == latency_requests
    timed = np.array(seconds) * 1e3
    return replace(
        honest,
        latency_p50_ms=float(np.percentile(timed, 50)) if known else None,
        latency_p99_ms=float(np.percentile(timed, 99)) if known else None,
        queries=done,
        disturbed=disturbed,
    )

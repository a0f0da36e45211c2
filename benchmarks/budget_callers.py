"""Callers with one key and many connections, who remember what they were answered."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from benchmarks.wire import exchange, images, infer_request

__all__ = ["MODEL", "SHAPE", "Tally", "call_until_told_not_to"]

MODEL = "small"
SHAPE = (1, 12, 12)
LARGEST = 16
REPLAYED = 0.25
"""Share of answered requests that are sent again, under the same idempotency key."""

PATIENCE_S = 30.0
BACK_OFF_S = 0.1


@dataclass(slots=True)
class Tally:
    """What all callers together saw.

    Attributes:
        statuses: answers by HTTP status, replays apart.
        answered: samples of requests that were answered 200 for the first time.
        replayed: replays that were answered 200.
        differing: those of them that were answered something else than the first time.
        unreached: requests that found nobody to connect to.
        cut: samples of requests whose connection broke before their answer.
        hanging: requests without an answer for ``PATIENCE_S``.
        refusals: when a 503 came, and how many seconds after its request.
        successes: when each 200 came.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    answered: int = 0
    replayed: int = 0
    differing: int = 0
    unreached: int = 0
    cut: int = 0
    hanging: int = 0
    refusals: list[tuple[float, float]] = field(default_factory=list)
    successes: list[float] = field(default_factory=list)


class _Unreached(Exception):
    """Nothing was sent."""


class _Connection:
    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._place = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        if self._streams is None:
            try:
                self._streams = await asyncio.open_connection(*self._place)
            except OSError as error:
                raise _Unreached from error
        reader, writer = self._streams
        writer.write(request)
        async with asyncio.timeout(PATIENCE_S):
            return await exchange(reader)

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None


async def call_until_told_not_to(
    urls: Sequence[str], key: str, caller: int, tally: Tally, *, until: float
) -> None:
    """Ask the replicas in turn, until the budget is used up or ``until`` (monotonic seconds)."""
    draw = random.Random(caller)  # noqa: S311 - what is asked is no secret
    connections = [_Connection(url) for url in urls]
    number = 0
    while time.monotonic() < until:
        number += 1
        samples = draw.randint(1, LARGEST)
        name = f"{caller}-{number}"
        headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": name}
        # Images that nobody else asks about, so that nothing but the key makes two requests alike.
        request = infer_request(
            MODEL, images(samples, SHAPE, seed=caller * 100_000 + number), headers
        )
        place = draw.randrange(len(urls))
        status, body = await _asked(connections[place], request, samples, tally)
        if status == 200 and draw.random() < REPLAYED:
            # At another replica, as behind a load balancer.
            again = await _again(connections[(place + 1) % len(urls)], request, until)
            tally.replayed += again is not None
            tally.differing += again is not None and again != body
        if status == 429:
            break
        if status != 200:
            await asyncio.sleep(BACK_OFF_S)
    for connection in connections:
        connection.close()


async def _asked(
    connection: _Connection, request: bytes, samples: int, tally: Tally
) -> tuple[int, bytes]:
    began = time.monotonic()
    try:
        status, body = await connection.ask(request)
    except TimeoutError:
        tally.hanging += 1
    except _Unreached:
        tally.unreached += 1
    except (OSError, asyncio.IncompleteReadError):
        tally.cut += samples
    else:
        now = time.monotonic()
        tally.statuses[status] += 1
        if status == 200:
            tally.answered += samples
            tally.successes.append(now)
        elif status == 503:
            tally.refusals.append((now, now - began))
        return status, body
    connection.close()
    return 0, b""


async def _again(connection: _Connection, request: bytes, until: float) -> bytes | None:
    """The answer to a request that was answered before; None if it could not be had."""
    while time.monotonic() < until:
        try:
            status, body = await connection.ask(request)
        except (_Unreached, TimeoutError, OSError, asyncio.IncompleteReadError):
            connection.close()
            return None
        if status == 200:
            return body
        await asyncio.sleep(BACK_OFF_S)
    return None

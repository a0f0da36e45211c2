"""The callers' port over a fake data plane, with keys in a store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
from prometheus_client import CollectorRegistry

from server.app import create_app
from server.callers.assembly import Callers, build_callers, open_key_store
from server.callers.keys import new_key
from server.settings import Settings
from tests.server.http.fakes import DIGITS, EXPLAINED, FakePlane, encoded, picture

PNG = encoded(picture(DIGITS))


@asynccontextmanager
async def served(
    settings: Settings,
    plane: FakePlane | None = None,
    *,
    registry: CollectorRegistry | None = None,
) -> AsyncIterator[tuple[httpx.AsyncClient, Callers]]:
    """A client of a started application, and who decides about callers there."""
    callers = build_callers(settings, registry)
    await callers.start()
    app = create_app(plane or FakePlane(EXPLAINED), settings, None, callers)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        yield client, callers
    await callers.close()


async def made(settings: Settings, **fields: Any) -> str:
    """A new key in the store of ``settings``."""
    key = new_key(**fields)
    async with open_key_store(settings) as store:
        await store.change(key.record.id, lambda _: key.record)
    return key.secret


async def changed(settings: Settings, secret: str, **fields: Any) -> None:
    """Change the record of a key."""
    async with open_key_store(settings) as store:
        (record,) = (r for r in await store.records() if r.matches(secret, datetime.now(UTC)))
        await store.change(record.id, lambda _: record.model_copy(update=fields))


async def ask(
    client: httpx.AsyncClient,
    key: str,
    path: str = "predict",
    *,
    once: str | None = None,
    content: bytes = PNG,
) -> httpx.Response:
    """One image to one model."""
    headers = {"content-type": "image/png", "x-api-key": key}
    if once is not None:
        headers["idempotency-key"] = once
    return await client.post(f"/v1/models/digits/{path}", content=content, headers=headers)


async def infer(
    client: httpx.AsyncClient, key: str, once: str | None, *, timeout_s: float
) -> httpx.Response:
    """One image by the protocol in which a request may state how long it waits."""
    image = picture(DIGITS)
    tensor = {"name": "images", "datatype": "UINT8", "shape": [1, *image.shape]}
    body = {
        "inputs": [{**tensor, "data": image.ravel().tolist()}],
        "parameters": {"timeout": round(1e6 * timeout_s)},
    }
    headers = {"x-api-key": key, **({} if once is None else {"idempotency-key": once})}
    return await client.post("/v2/models/digits/infer", json=body, headers=headers)


async def used(client: httpx.AsyncClient, key: str) -> tuple[int, int]:
    """Samples of today and ever, as the caller is told; waits for a Redis that was away."""
    until = time.monotonic() + 10
    while True:
        answer = await client.get("/v1/usage", headers={"x-api-key": key})
        if answer.status_code != 503 or time.monotonic() > until:
            break
        await asyncio.sleep(0.05)
    told = answer.json()
    return told["today"]["used"], told["lifetime"]["used"]

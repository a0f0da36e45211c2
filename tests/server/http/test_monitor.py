"""The monitor on the path of a query: every protocol and both questions pass it."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from tests.server.http.fakes import DIGITS, EXPLAINED, FakePlane, answer_for, app_for

SIDE = DIGITS.input.height


def v2(images: NDArray[np.uint8], *outputs: str) -> dict[str, Any]:
    shape = list(images.shape)
    question: dict[str, Any] = {
        "inputs": [
            {"name": "images", "datatype": "UINT8", "shape": shape, "data": images.ravel().tolist()}
        ]
    }
    return {**question, "outputs": [{"name": name} for name in outputs]} if outputs else question


def spaced() -> NDArray[np.uint8]:
    """Pictures of one label, any two at one of two distances."""
    count = SIDE * SIDE
    pairs = [(i, j) for i in range(count) for j in range(i)]
    images = np.zeros((len(pairs), count), dtype=np.uint8)
    for image, pair in zip(images, pairs, strict=True):
        image[list(pair)] = 255
    shaped = images.reshape(-1, 1, SIDE, SIDE)
    labels = answer_for(shaped, len(DIGITS.labels)).argmax(axis=1)
    found: NDArray[np.uint8] = shaped[labels == np.bincount(labels).argmax()][:240]
    return found


def test_a_suspect_is_tightened_in_predictions_and_in_explanations() -> None:
    plane = FakePlane(EXPLAINED)
    app = app_for(
        plane,
        monitor={"enabled": True},
        models={"digits": {"tighten": [{"kind": "label-only"}]}},
    )

    async def scenario() -> None:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:

            async def ask(body: dict[str, Any]) -> None:
                response = await client.post("/v2/models/digits/infer", json=body)
                assert response.status_code == 200, response.text

            images = spaced()
            await ask(v2(images[:1]))
            assert plane.tightened == 0
            for _ in range(20):
                await ask(v2(images[:120]))
                await ask(v2(images[120:]))
                await asyncio.sleep(0.05)
                if plane.tightened:
                    break
            before = plane.tightened
            assert before > 0
            await ask(v2(images[:2], "probabilities", "attributions"))
            assert plane.tightened == before + 2

    asyncio.run(scenario())


def test_without_a_monitor_nobody_is_tightened() -> None:
    plane = FakePlane()

    async def scenario() -> None:
        transport = httpx.ASGITransport(app=app_for(plane))
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            for _ in range(4):
                body = v2(spaced()[:200])
                assert (await client.post("/v2/models/digits/infer", json=body)).is_success

    asyncio.run(scenario())
    assert plane.tightened == 0
    assert len(plane.asked) == 4

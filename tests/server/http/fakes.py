"""A data plane without a model, and a client that needs no socket."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from starlette.types import ASGIApp

from models.card import InputSpec
from server.app import create_app
from server.dataplane import Explained, ModelView
from server.errors import NotFound, ServiceError
from server.settings import Settings

DIGITS = ModelView(
    name="digits",
    version="2",
    versions=("1", "2"),
    input=InputSpec(channels=1, height=8, width=8),
    labels=tuple("0123456789"),
)
EXPLAINED = replace(DIGITS, maps=(4, 4), explanation_cost=4)
COLOURS = ModelView(
    name="colours",
    version="1",
    versions=("1",),
    input=InputSpec(channels=3, height=4, width=6),
    labels=tuple(f"colour-{index}" for index in range(200)),
)


class FakePlane:
    """Answers with a fixed function of each image; can be told to fail, wait or refuse."""

    def __init__(self, *views: ModelView) -> None:
        self._views = {view.name: view for view in views or (DIGITS, COLOURS)}
        self.ready_now = True
        self.failure: Exception | None = None
        self.crowded: ServiceError | None = None
        self.gate: asyncio.Event | None = None
        self.begun = asyncio.Event()
        self.cancelled = 0
        self.tightened = 0
        self.asked: list[tuple[str, str, NDArray[np.uint8], float | None]] = []
        self.callers: list[str] = []
        self.tiers: list[str | None] = []
        self.explained = 0

    @property
    def ready(self) -> bool:
        return self.ready_now

    def overload(self) -> ServiceError | None:
        return self.crowded

    def models(self, tier: str | None = None) -> tuple[ModelView, ...]:
        return tuple(self._views.values())

    def view(self, name: str, version: str | None = None, *, tier: str | None = None) -> ModelView:
        self.tiers.append(tier)
        view = self._views.get(name)
        if view is None:
            raise NotFound(f"there is no model {name!r}")
        if version is not None and version not in view.versions:
            raise NotFound(f"model {name!r} has no version {version!r}")
        return view if version is None else replace(view, version=version)

    def tightens(self, view: ModelView) -> bool:
        return True

    def weights(self, view: ModelView) -> str:
        return f"{view.name}/{view.version}"

    async def predict(
        self,
        view: ModelView,
        images: NDArray[np.uint8],
        *,
        timeout_s: float | None = None,
        tightened: bool = False,
        caller: str = "",
    ) -> NDArray[np.float32]:
        self.tightened += tightened * len(images)
        self.asked.append((view.name, view.version, images, timeout_s))
        self.callers.append(caller)
        self.begun.set()
        if self.failure is not None:
            raise self.failure
        if self.gate is not None:
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        return answer_for(images, len(view.labels))

    async def explain(
        self,
        view: ModelView,
        images: NDArray[np.uint8],
        *,
        timeout_s: float | None = None,
        tightened: bool = False,
        caller: str = "",
    ) -> Explained:
        probabilities = await self.predict(
            view, images, timeout_s=timeout_s, tightened=tightened, caller=caller
        )
        self.explained += len(images)
        return Explained(probabilities, map_for(images, view))


def answer_for(images: NDArray[np.uint8], classes: int) -> NDArray[np.float32]:
    """A probability vector for each image that depends on all of its pixels and their order."""
    flat = images.reshape(len(images), -1).astype(np.float64)
    weights = np.sin(np.arange(flat.shape[1])[:, None] * 1.7 + np.arange(classes)[None, :])
    logits = flat / 255.0 @ weights
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    rows: NDArray[np.float32] = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    return rows


def map_for(images: NDArray[np.uint8], view: ModelView) -> NDArray[np.float32]:
    """A map for each image, in steps of 0.001: the corner of its first channel."""
    assert view.maps is not None
    height, width = view.maps
    corner = images[:, 0, :height, :width] / np.float32(255)
    rows: NDArray[np.float32] = (corner * 1000).round().astype(np.float32) / np.float32(1000)
    return rows


class CountingMetrics:
    """Records what the callers' port reports."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, int, float]] = []
        self.refusals: list[tuple[str, int]] = []

    def request(self, route: str, status: int, seconds: float) -> None:
        self.requests.append((route, status, seconds))

    def refused(self, reason: str, samples: int) -> None:
        self.refusals.append((reason, samples))


def settings(**given: Any) -> Settings:
    return Settings(model_dir=Path("unused"), **given)


def app_for(plane: FakePlane, *, metrics: Any = None, **given: Any) -> ASGIApp:
    return create_app(plane, settings(**given), metrics)


def call(
    app: ASGIApp,
    method: str,
    path: str,
    *,
    content: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    **options: Any,
) -> httpx.Response:
    """Make one request of ``app`` in a loop of its own, with no default headers of httpx's."""

    async def once() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            client.headers.clear()
            return await client.request(method, path, content=content, headers=headers, **options)

    return asyncio.run(once())


def error_of(response: httpx.Response, status: int) -> str:
    """The sentence of an error response, after checking its form."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert list(body) == ["error"]
    message = body["error"]
    assert isinstance(message, str)
    assert message
    assert "\n" not in message
    return message


def picture(view: ModelView, seed: int = 0) -> NDArray[np.uint8]:
    """A random image in the input shape of ``view``, ``(C, H, W)``."""
    return np.random.default_rng(seed).integers(0, 256, view.input.shape, dtype=np.uint8)


def encoded(image: NDArray[np.uint8], kind: str = "PNG", **options: Any) -> bytes:
    """``(C, H, W)`` as a file."""
    pixels = image[0] if image.shape[0] == 1 else np.ascontiguousarray(image.transpose(1, 2, 0))
    into = io.BytesIO()
    Image.fromarray(pixels).save(into, kind, **options)
    return into.getvalue()

"""``/v1``: an image in, labels by name out."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request
from starlette.responses import Response

from server.dataplane import ModelView
from server.decoder import ImageDecoder
from server.protocol.compression import compress
from server.protocol.v1 import TopK, encode_predictions
from server.routes.answer import Answer, Codec, Question
from server.routes.pictures import read_pictures, undecoded
from server.routes.query import QueryPath

__all__ = ["add_v1_routes"]

INLINE_CELLS = 4096
"""Probabilities that are written, and compressed, on the event loop; more go to a thread."""


def add_v1_routes(app: FastAPI, path: QueryPath, decoder: ImageDecoder) -> None:
    """Add the routes of the plain protocol."""
    routes = _Routes(path, decoder)
    model = "/v1/models/{name}"
    for method, template, endpoint in (
        ("GET", "/v1/models", routes.models),
        ("GET", model, routes.model),
        ("POST", f"{model}/predict", routes.predict),
        ("POST", f"{model}/versions/{{version}}/predict", routes.predict_version),
    ):
        app.add_api_route(
            template,
            endpoint,
            methods=[method],
            tags=["v1"],
            dependencies=[Depends(path.identify)],
        )


class _Routes:
    def __init__(self, path: QueryPath, decoder: ImageDecoder) -> None:
        self._path = path
        self._decoder = decoder

    async def models(self, request: Request) -> dict[str, Any]:
        """List what is served."""
        return {"models": [_described(view) for view in self._path.models(request)]}

    async def model(self, request: Request, name: str) -> dict[str, Any]:
        """Describe one model: what it is shown and what it can say."""
        return _described(self._path.view(request, name))

    async def predict(
        self, request: Request, name: str, top_k: Annotated[TopK | None, Query()] = None
    ) -> Response:
        """Classify one or several images.

        The body is an image (`image/png`, `image/jpeg`, `image/webp`), a `multipart/form-data` form
        with several image files, or JSON with base64. Labels come back most probable first.
        """
        return await self._predict(request, name, None, top_k)

    async def predict_version(
        self,
        request: Request,
        name: str,
        version: str,
        top_k: Annotated[TopK | None, Query()] = None,
    ) -> Response:
        """Classify one or several images with one version of a model."""
        return await self._predict(request, name, version, top_k)

    async def _predict(
        self, request: Request, name: str, version: str | None, top_k: int | None
    ) -> Response:
        wanted = top_k

        async def read(view: ModelView, body: bytes) -> Question:
            nonlocal wanted
            images, wanted = await read_pictures(self._path, request, body, top_k=wanted)
            self._path.check_samples(len(images), most=view.max_request_samples)
            caller = self._path.known(request)
            return Question(len(images), undecoded(self._decoder, images, view.input, caller))

        async def encode(answer: Answer) -> Response:
            small = answer.probabilities.size <= INLINE_CELLS
            body, headers = write(answer) if small else await asyncio.to_thread(write, answer)
            return Response(body, media_type="application/json", headers=headers)

        def write(answer: Answer) -> tuple[bytes, dict[str, str]]:
            view = answer.view
            text = encode_predictions(
                answer.probabilities,
                view.labels,
                model=view.name,
                version=view.version,
                top_k=wanted,
            )
            return compress(text, request.headers.get("accept-encoding"))

        return await self._path.answer(request, name, version, Codec(read, encode))


def _described(view: ModelView) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": view.name,
        "version": view.version,
        "versions": list(view.versions),
        "input": {
            "channels": view.input.channels,
            "height": view.input.height,
            "width": view.input.width,
        },
        "labels": list(view.labels),
    }
    if view.maps is not None:
        height, width = view.maps
        extent = view.map_extent or (0.0, 0.0, view.input.height, view.input.width)
        places = zip(("top", "left", "bottom", "right"), extent, strict=True)
        described["attributions"] = {
            "height": height,
            "width": width,
            **dict(places),
            "cost": view.explanation_cost,
        }
    return described

"""``/v1``: an image in, labels by name out."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request
from starlette.responses import Response

from server.dataplane import ModelView
from server.errors import BadRequest, UnsupportedMedia
from server.images import EncodedImage, ImageDecoder
from server.protocol.compression import compress
from server.protocol.json_bounds import check_image_list
from server.protocol.multipart import parse_multipart
from server.protocol.v1 import TopK, decode_base64, decode_json, encode_predictions
from server.routes.query import QueryPath, Question

__all__ = ["add_v1_routes"]

IMAGE_TYPES = ("image/png", "image/jpeg", "image/webp")
INLINE_CELLS = 4096
"""Probabilities that are written on the event loop; more go to a thread."""


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

    async def models(self) -> dict[str, Any]:
        """List what is served."""
        return {"models": [_described(view) for view in self._path.plane.models()]}

    async def model(self, name: str) -> dict[str, Any]:
        """Describe one model: what it is shown and what it can say."""
        return _described(self._path.plane.view(name))

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

        async def decode(view: ModelView, body: bytes) -> Question:
            nonlocal wanted
            images, stated = self._encoded_images(request.headers.get("content-type", ""), body)
            if stated is not None and wanted not in (None, stated):
                raise BadRequest(f"top_k is {wanted} in the address but {stated} in the body")
            wanted = stated if wanted is None else wanted
            return Question(await self._decoder.decode(images, view.input))

        answer = await self._path.answer(request, name, version, decode)
        view = answer.view

        def encode() -> bytes:
            return encode_predictions(
                answer.probabilities,
                view.labels,
                model=view.name,
                version=view.version,
                top_k=wanted,
            )

        small = answer.probabilities.size <= INLINE_CELLS
        text = encode() if small else await asyncio.to_thread(encode)
        body, headers = compress(text, request.headers.get("accept-encoding"))
        return Response(body, media_type="application/json", headers=headers)

    def _encoded_images(
        self, content_type: str, body: bytes
    ) -> tuple[list[EncodedImage], int | None]:
        media_type = content_type.partition(";")[0].strip().lower()
        if media_type in IMAGE_TYPES:
            return [EncodedImage("the body", body)], None
        if media_type == "application/json":
            check_image_list(body, max_samples=self._path.limits.max_request_samples)
            texts, top_k = decode_json(body)
            self._path.check_samples(len(texts))
            return [
                EncodedImage(f"images[{index}]", decode_base64(text, where=f"images[{index}]"))
                for index, text in enumerate(texts)
            ], top_k
        if media_type == "multipart/form-data":
            return self._form(content_type, body)
        raise UnsupportedMedia(
            f"content-type must be one of {', '.join(IMAGE_TYPES)}, multipart/form-data or "
            f"application/json"
        )

    def _form(self, content_type: str, body: bytes) -> tuple[list[EncodedImage], int | None]:
        # One part more than there may be images: top_k.
        most = self._path.limits.max_request_samples + 1
        images: list[EncodedImage] = []
        top_k: int | None = None
        for part in parse_multipart(body, content_type, max_parts=most):
            if part.filename is not None:
                images.append(EncodedImage(f"file {len(images)} of the form", part.content))
            elif part.name == "top_k" and top_k is None:
                top_k = _top_k(part.content)
            else:
                raise BadRequest(
                    f"the form field {part.name[:64]!r} is not understood: send image files, "
                    f"and at most one top_k"
                )
        self._path.check_samples(len(images))
        return images, top_k


def _top_k(content: bytes) -> int:
    text = content.strip()
    if not text.isdigit() or len(text) > 9 or int(text) < 1:
        raise BadRequest("top_k must be a whole number of at least 1")
    return int(text)


def _described(view: ModelView) -> dict[str, Any]:
    return {
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

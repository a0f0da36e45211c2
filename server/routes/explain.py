"""``/v1/models/{name}/explain``: an image in, its labels and what in it spoke for the first out."""

from __future__ import annotations

import asyncio
from typing import Annotated

import numpy as np
from fastapi import Depends, FastAPI, Query, Request
from numpy.typing import NDArray
from starlette.responses import Response

from server.dataplane import ModelView
from server.decoder import ImageDecoder
from server.errors import BadRequest
from server.heat_map import heat_map
from server.protocol.accept import prefers
from server.protocol.compression import compress
from server.protocol.v1 import TopK, encode_explanations
from server.routes.answer import Answer, Codec, Question
from server.routes.pictures import read_pictures, undecoded
from server.routes.query import QueryPath

__all__ = ["add_explain_routes"]

JSON, PNG = "application/json", "image/png"
VARY = "accept, accept-encoding"


def add_explain_routes(app: FastAPI, path: QueryPath, decoder: ImageDecoder) -> None:
    """Add the routes that explain an answer."""
    routes = _Routes(path, decoder)
    model = "/v1/models/{name}"
    for template, endpoint in (
        (f"{model}/explain", routes.explain),
        (f"{model}/versions/{{version}}/explain", routes.explain_version),
    ):
        app.add_api_route(
            template,
            endpoint,
            methods=["POST"],
            tags=["v1"],
            dependencies=[Depends(path.identify)],
        )


class _Routes:
    def __init__(self, path: QueryPath, decoder: ImageDecoder) -> None:
        self._path = path
        self._decoder = decoder

    async def explain(
        self, request: Request, name: str, top_k: Annotated[TopK | None, Query()] = None
    ) -> Response:
        """Classify one or several images, and show what in each spoke for its first label.

        The body is that of `predict`, and the probabilities are the same. With `Accept: image/png`
        the answer to a single image is a picture of it under its heat map.
        """
        return await self._explain(request, name, None, top_k)

    async def explain_version(
        self,
        request: Request,
        name: str,
        version: str,
        top_k: Annotated[TopK | None, Query()] = None,
    ) -> Response:
        """Classify and explain one or several images with one version of a model."""
        return await self._explain(request, name, version, top_k)

    async def _explain(
        self, request: Request, name: str, version: str | None, top_k: int | None
    ) -> Response:
        wanted = top_k
        pictured = prefers(request.headers.get("accept"), PNG, over=JSON)
        shown: NDArray[np.uint8] | None = None

        async def read(view: ModelView, body: bytes) -> Question:
            nonlocal wanted
            images, wanted = await read_pictures(self._path, request, body, top_k=wanted)
            if pictured and len(images) != 1:
                raise BadRequest(f"a picture explains one image, not {len(images)}: ask for {JSON}")
            self._path.check_samples(
                len(images), cost=view.explanation_cost, most=view.max_request_samples
            )
            decode = undecoded(self._decoder, images, view.input, self._path.known(request))

            async def decoded() -> NDArray[np.uint8]:
                nonlocal shown
                shown = await decode()
                return shown

            return Question(len(images), decoded, explain=True)

        async def encode(answer: Answer) -> Response:
            assert answer.attributions is not None
            assert shown is not None
            if pictured:
                picture = await asyncio.to_thread(
                    heat_map, shown[0], answer.attributions[0], answer.view.map_extent
                )
                return Response(picture, media_type=PNG, headers={"vary": VARY})
            coding = request.headers.get("accept-encoding")
            body, headers = await asyncio.to_thread(
                lambda: compress(_encoded(answer, wanted), coding)
            )
            return Response(body, media_type=JSON, headers={**headers, "vary": VARY})

        return await self._path.answer(request, name, version, Codec(read, encode, explain=True))


def _encoded(answer: Answer, top_k: int | None) -> bytes:
    assert answer.attributions is not None
    view = answer.view
    return encode_explanations(
        answer.probabilities,
        answer.attributions,
        view.labels,
        model=view.name,
        version=view.version,
        top_k=top_k,
    )

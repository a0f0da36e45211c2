"""``/v2``: the Open Inference Protocol, as ``tritonclient[http]`` speaks it."""

from __future__ import annotations

import asyncio
import importlib.metadata
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from fastapi import Depends, FastAPI, Request
from numpy.typing import NDArray
from starlette.responses import Response

from server.dataplane import ModelView
from server.errors import Draining, Unsupported
from server.protocol.compression import compress, negotiate
from server.protocol.json_bounds import check_tensor
from server.protocol.tensors import Datatype, TensorSpec
from server.protocol.v2 import (
    HEADER_LENGTH,
    InferenceRequest,
    decode_request,
    encode_response,
    json_part,
)
from server.routes.answer import Answer, Codec, Question
from server.routes.query import QueryPath

__all__ = ["add_v2_routes"]

INLINE_BYTES = 64 * 1024
"""JSON that is parsed on the event loop; more goes to a thread. Binary tensors are only copied."""

INLINE_CELLS = 4096
"""Numbers that are written as text or compressed on the event loop; more go to a thread."""

PROBABILITIES = "probabilities"
ATTRIBUTIONS = "attributions"

EXTENSIONS = ("binary_tensor_data", "parameters")

OPTIONAL = (
    # Extensions that a client may ask for and that we do not implement: 501, with a sentence.
    ("GET", "/v2/models/{name}/config"),
    ("GET", "/v2/models/{name}/versions/{version}/config"),
    ("GET", "/v2/models/{name}/stats"),
    ("GET", "/v2/models/{name}/versions/{version}/stats"),
    ("POST", "/v2/repository/index"),
    ("POST", "/v2/repository/models/{name}/load"),
    ("POST", "/v2/repository/models/{name}/unload"),
    ("GET", "/v2/logging"),
    ("POST", "/v2/logging"),
    ("GET", "/v2/trace/setting"),
    ("POST", "/v2/trace/setting"),
    ("GET", "/v2/models/{name}/trace/setting"),
    ("POST", "/v2/models/{name}/trace/setting"),
    ("GET", "/v2/{kind}sharedmemory/{path:path}"),
    ("POST", "/v2/{kind}sharedmemory/{path:path}"),
)


def add_v2_routes(app: FastAPI, path: QueryPath) -> None:
    """Add the routes of the protocol but for health."""
    routes = _Routes(path)
    model, version = "/v2/models/{name}", "/v2/models/{name}/versions/{version}"
    implemented: tuple[tuple[str, str, Callable[..., Any]], ...] = (
        ("GET", "/v2", routes.server),
        ("GET", model, routes.model),
        ("GET", version, routes.model_version),
        ("GET", f"{model}/ready", routes.ready),
        ("GET", f"{version}/ready", routes.ready_version),
        ("POST", f"{model}/infer", routes.infer),
        ("POST", f"{version}/infer", routes.infer_version),
    )
    for method, template, endpoint in (
        *implemented,
        *((method, template, _unsupported) for method, template in OPTIONAL),
    ):
        app.add_api_route(
            template,
            endpoint,
            methods=[method],
            tags=["v2"],
            dependencies=[Depends(path.identify)],
            include_in_schema=endpoint is not _unsupported,
        )


class _Routes:
    def __init__(self, path: QueryPath) -> None:
        self._path = path
        # One thread: parsers keep the interpreter to themselves anyway, and what waits for it is
        # bounded by limits.max_buffered_bytes.
        self._parser = ThreadPoolExecutor(1, thread_name_prefix="intaglio-json")

    async def server(self) -> dict[str, Any]:
        """Name the server and the extensions of the protocol that it implements."""
        version = importlib.metadata.version("intaglio")
        return {"name": "intaglio", "version": version, "extensions": list(EXTENSIONS)}

    async def model(self, request: Request, name: str) -> dict[str, Any]:
        """Describe the inputs and outputs of a model."""
        return _metadata(self._path.view(request, name))

    async def model_version(self, request: Request, name: str, version: str) -> dict[str, Any]:
        """Describe the inputs and outputs of one version of a model."""
        return _metadata(self._path.view(request, name, version))

    async def ready(self, request: Request, name: str) -> dict[str, Any]:
        """Say whether a model takes queries."""
        return self._ready(request, name, None)

    async def ready_version(self, request: Request, name: str, version: str) -> dict[str, Any]:
        """Say whether one version of a model takes queries."""
        return self._ready(request, name, version)

    async def infer(self, request: Request, name: str) -> Response:
        """Classify a batch of images, given as one UINT8 tensor `images` of shape `[n, C, H, W]`.

        Models that explain themselves send `attributions` too if `outputs` names them.
        JSON, or JSON followed by binary tensors; gzip and deflate bodies are understood.
        """
        return await self._infer(request, name, None)

    async def infer_version(self, request: Request, name: str, version: str) -> Response:
        """Classify a batch of images with one version of a model."""
        return await self._infer(request, name, version)

    def _ready(self, request: Request, name: str, version: str | None) -> dict[str, Any]:
        view = self._path.view(request, name, version)
        if not self._path.plane.ready:
            raise Draining
        return {"name": view.name, "ready": True}

    async def _infer(self, request: Request, name: str, version: str | None) -> Response:
        asked: InferenceRequest | None = None

        async def read(view: ModelView, body: bytes) -> Question:
            nonlocal asked
            header_length = request.headers.get(HEADER_LENGTH)
            text = json_part(body, header_length)
            limits = self._path.limits
            check_tensor(
                text,
                view.input.shape,
                max_samples=limits.max_request_samples,
                max_bytes=limits.max_json_bytes,
            )
            parse = partial(
                decode_request,
                body,
                header_length,
                inputs=_inputs(view),
                outputs=_outputs(view),
                unasked=1,
            )
            if len(text) <= INLINE_BYTES:
                asked = parse()
            else:
                loop = asyncio.get_running_loop()
                asked = await loop.run_in_executor(self._parser, parse)
            explain = any(output.name == ATTRIBUTIONS for output in asked.outputs)
            images = asked.inputs["images"]

            async def there() -> NDArray[np.uint8]:
                return images

            return Question(len(images), there, asked.timeout_s, explain)

        async def encode(answer: Answer) -> Response:
            assert asked is not None
            answers = {PROBABILITIES: answer.probabilities}
            if answer.attributions is not None:
                answers[ATTRIBUTIONS] = answer.attributions
            coding = request.headers.get("accept-encoding")
            write = partial(_written, answer.view, asked, answers, coding)
            copied = negotiate(coding) is None and all(output.binary for output in asked.outputs)
            cells = sum(answers[output.name].size for output in asked.outputs)
            return write() if copied or cells <= INLINE_CELLS else await asyncio.to_thread(write)

        codec = Codec(read, encode, tensors=HEADER_LENGTH not in request.headers)
        return await self._path.answer(request, name, version, codec)


def _written(
    view: ModelView,
    asked: InferenceRequest,
    answers: Mapping[str, NDArray[np.float32]],
    coding: str | None,
) -> Response:
    response = encode_response(
        model_name=view.name, model_version=view.version, request=asked, answers=answers
    )
    body, headers = compress(response.body, coding)
    if response.header_length is None:
        return Response(body, media_type="application/json", headers=headers)
    headers[HEADER_LENGTH] = str(response.header_length)
    return Response(body, media_type="application/octet-stream", headers=headers)


async def _unsupported() -> None:
    raise Unsupported("this extension of the protocol is not supported")


def _inputs(view: ModelView) -> tuple[TensorSpec, ...]:
    return (TensorSpec("images", Datatype.UINT8, (-1, *view.input.shape)),)


def _outputs(view: ModelView) -> tuple[TensorSpec, ...]:
    """The probabilities, and after them what leaves only if it is named."""
    probabilities = TensorSpec(PROBABILITIES, Datatype.FP32, (-1, len(view.labels)))
    if view.maps is None:
        return (probabilities,)
    return probabilities, TensorSpec(ATTRIBUTIONS, Datatype.FP32, (-1, *view.maps))


def _metadata(view: ModelView) -> dict[str, Any]:
    return {
        "name": view.name,
        "versions": list(view.versions),
        "platform": "pytorch_safetensors",
        "inputs": [spec.metadata() for spec in _inputs(view)],
        "outputs": [_described(spec, view) for spec in _outputs(view)],
    }


def _described(spec: TensorSpec, view: ModelView) -> dict[str, Any]:
    """With what a sample of it counts as, where that is not one."""
    described = spec.metadata()
    if spec.name == ATTRIBUTIONS:
        described["parameters"] = {"cost": view.explanation_cost}
    return described

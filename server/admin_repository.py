"""The repository and statistics extensions of the Open Inference Protocol V2, for operators."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Awaitable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from server.admin_requests import Authorise, operators_route, read_object
from server.errors import BadRequest, ConfigurationError, Draining
from server.hot_reload import Change, HotReload
from server.serving import InferenceService

__all__ = ["changed", "repository_routes"]

EXTENSIONS = ("model_repository", "statistics", "logging")


def repository_routes(
    authorise: Authorise, service: InferenceService, reloads: HotReload
) -> list[Route]:
    """The routes of both extensions, and the metadata that announces them."""
    routes = _Routes(service, reloads)
    model = "/v2/models/{name}"
    return [
        Route("/v2/health/ready", routes.ready, methods=["GET"]),
        *(
            operators_route(method, path, endpoint, authorise=authorise)
            for method, path, endpoint in (
                ("GET", "/v2", routes.server),
                ("POST", "/v2/repository/index", routes.index),
                ("POST", "/v2/repository/models/{name}/load", routes.load),
                ("POST", "/v2/repository/models/{name}/unload", routes.unload),
                ("GET", "/v2/models/stats", routes.statistics),
                ("GET", f"{model}/stats", routes.statistics),
                ("GET", f"{model}/versions/{{version}}/stats", routes.statistics),
            )
        ),
    ]


async def changed(work: Awaitable[Change]) -> Change:
    """What a change did.

    Raises:
        BadRequest: the configuration cannot be served, and why.
        ServiceError: those of ``server.hot_reload``.
    """
    try:
        return await work
    except ConfigurationError as error:
        raise BadRequest(str(error)) from error


class _Routes:
    def __init__(self, service: InferenceService, reloads: HotReload) -> None:
        self._service = service
        self._reloads = reloads

    async def ready(self, request: Request) -> Response:
        del request
        if not self._service.ready:
            raise Draining
        return JSONResponse({"ready": True})

    async def server(self, request: Request) -> Response:
        del request
        version = importlib.metadata.version("intaglio")
        return JSONResponse(
            {"name": "intaglio", "version": version, "extensions": list(EXTENSIONS)}
        )

    async def index(self, request: Request) -> Response:
        ready = (await read_object(request)).get("ready", False)
        if not isinstance(ready, bool):
            raise BadRequest("ready must be true or false")
        return JSONResponse(self._reloads.index(ready=ready))

    async def load(self, request: Request) -> Response:
        # Triton takes configurations and files here: that would be code and weights by request.
        if parameters := _parameters(await read_object(request)):
            raise BadRequest(
                f"parameters.{min(parameters)}: a model is loaded as the server's own "
                "configuration says; no parameter is taken"
            )
        await changed(self._reloads.load(request.path_params["name"]))
        return Response()

    async def unload(self, request: Request) -> Response:
        if unknown := _parameters(await read_object(request)).keys() - {"unload_dependents"}:
            raise BadRequest(f"parameters.{min(unknown)}: there is no such parameter")
        # Nothing depends on a model here, so there are no dependents to unload.
        await changed(self._reloads.unload(request.path_params["name"]))
        return Response()

    async def statistics(self, request: Request) -> Response:
        name, version = (request.path_params.get(key) for key in ("name", "version"))
        if name is not None:
            # Refuses what is not served.
            self._service.catalogue.entry(name).find(version, None)
        return JSONResponse({"model_stats": self._service.statistics.told(name, version)})


def _parameters(body: dict[str, Any]) -> dict[str, Any]:
    parameters = body.get("parameters", {})
    if not isinstance(parameters, dict):
        raise BadRequest("parameters must be a JSON object")
    return parameters

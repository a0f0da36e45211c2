"""What an operator does with a running server beyond the protocol: reload, drain, listen closer."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from server.admin_repository import changed
from server.admin_requests import Authorise, operators_route, read_object
from server.errors import BadRequest
from server.hot_reload import HotReload
from server.logs import current_level, set_level
from server.serving import InferenceService

__all__ = ["control_routes"]

LEVELS = ("log_error", "log_warning", "log_info")
"""Fields of the protocol's logging extension, the least talkative first."""


def control_routes(
    authorise: Authorise, service: InferenceService, reloads: HotReload
) -> list[Route]:
    """The routes that are ours, and the protocol's logging extension."""
    routes = _Routes(service, reloads)
    return [
        operators_route(method, path, endpoint, authorise=authorise)
        for method, path, endpoint in (
            ("POST", "/admin/reload", routes.reload),
            ("POST", "/admin/drain", routes.drain),
            ("POST", "/admin/resume", routes.resume),
            ("GET", "/v2/logging", routes.logging),
            ("POST", "/v2/logging", routes.set_logging),
        )
    ]


class _Routes:
    def __init__(self, service: InferenceService, reloads: HotReload) -> None:
        self._service = service
        self._reloads = reloads

    async def reload(self, request: Request) -> Response:
        """As SIGHUP does."""
        _refuse_fields(await read_object(request))
        return JSONResponse(asdict(await changed(self._reloads.reload())))

    async def drain(self, request: Request) -> Response:
        """Be ready no more, so that a load balancer sends its queries elsewhere."""
        _refuse_fields(await read_object(request))
        self._service.refuse()
        return JSONResponse({"ready": self._service.ready})

    async def resume(self, request: Request) -> Response:
        """Be ready again."""
        _refuse_fields(await read_object(request))
        self._service.resume()
        return JSONResponse({"ready": self._service.ready})

    async def logging(self, request: Request) -> Response:
        del request
        return JSONResponse(_settings())

    async def set_logging(self, request: Request) -> Response:
        level = _level({**_settings(), **await _given(request)})
        set_level(level)
        logging.getLogger(__name__).info("the log level is %s", level)
        return JSONResponse(_settings())


def _settings() -> dict[str, Any]:
    """The level in the words of the protocol."""
    level = current_level()
    heard = {"error": 1, "warning": 2}.get(level, 3)
    return {
        **{field: place < heard for place, field in enumerate(LEVELS)},
        "log_verbose_level": int(level == "debug"),
    }


async def _given(request: Request) -> dict[str, Any]:
    given = await read_object(request)
    _refuse_fields(given, *LEVELS, "log_verbose_level")
    for field in given.keys() & set(LEVELS):
        if not isinstance(given[field], bool):
            raise BadRequest(f"{field} must be true or false")
    verbose = given.get("log_verbose_level", 0)
    if not isinstance(verbose, int) or isinstance(verbose, bool) or verbose < 0:
        raise BadRequest("log_verbose_level must be a whole number of at least 0")
    return given


def _level(wanted: dict[str, Any]) -> str:
    if wanted["log_verbose_level"]:
        return "debug"
    heard = [wanted[field] for field in LEVELS]
    if heard != sorted(heard, reverse=True) or not heard[0]:
        raise BadRequest(
            "log_error cannot be turned off, and log_info needs log_warning: a level is heard with "
            "all that is graver"
        )
    return ("error", "warning", "info")[sum(heard) - 1]


def _refuse_fields(body: dict[str, Any], *but: str) -> None:
    if unknown := body.keys() - set(but):
        raise BadRequest(f"{min(unknown)[:64]}: there is no such field")

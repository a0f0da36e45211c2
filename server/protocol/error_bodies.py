"""Every error leaves as ``{"error": "..."}``, whoever raised it."""

from __future__ import annotations

import math

from fastapi.exceptions import RequestValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from server.errors import RequestTimeout, ServiceError, Unauthorized
from server.protocol.sentences import asked_path, first_sentence

__all__ = ["error_response", "install_error_bodies"]


def error_response(error: ServiceError) -> JSONResponse:
    """Write a service error, with the headers that go with it."""
    headers = {}
    if error.retry_after is not None:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after)))
    if isinstance(error, Unauthorized):
        headers["www-authenticate"] = "Bearer"
    if isinstance(error, RequestTimeout):
        # The rest of the body may still come; it must not be taken for the next request.
        headers["connection"] = "close"
    return JSONResponse({"error": str(error)}, status_code=error.status, headers=headers)


def install_error_bodies(app: Starlette) -> None:
    """Make ``app`` answer its own errors and its framework's in the same form.

    What nobody expected is not handled here: ``server.middleware.opaque_failures`` stands outside.
    """
    app.add_exception_handler(ServiceError, _service_error)
    app.add_exception_handler(HTTPException, _framework_error)
    app.add_exception_handler(RequestValidationError, _validation_error)


async def _service_error(request: Request, error: Exception) -> Response:
    del request
    assert isinstance(error, ServiceError)
    return error_response(error)


async def _framework_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = str(error.detail)
    if error.status_code == 404:
        message = f"there is nothing at {asked_path(request.scope)}"
    elif error.status_code == 405:
        message = f"{request.method} is not allowed at {asked_path(request.scope)}"
    return JSONResponse(
        {"error": message}, status_code=error.status_code, headers=dict(error.headers or {})
    )


async def _validation_error(request: Request, error: Exception) -> Response:
    del request
    assert isinstance(error, RequestValidationError)
    # The first part of a location says "query" or "path", which a caller need not be told.
    errors = [{**item, "loc": item["loc"][1:]} for item in error.errors()]
    return JSONResponse({"error": first_sentence(errors, root="request")}, status_code=400)

"""What every route for operators does first: who is it, and what does the body say."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from server.admission import Caller
from server.errors import BadRequest, RequestTimeout, TooLarge
from server.protocol.sentences import asked_path

__all__ = ["Authorise", "Endpoint", "operators_route", "read_object"]

logger = logging.getLogger(__name__)

LARGEST_BODY = 64 * 2**10
"""Bytes."""

BODY_S = 10.0
"""How long a body may take to arrive."""

Authorise = Callable[[Mapping[str, str]], Awaitable[Caller]]
Endpoint = Callable[[Request], Awaitable[Response]]


def operators_route(method: str, path: str, endpoint: Endpoint, *, authorise: Authorise) -> Route:
    """A route that only operators get through; who changes something is logged."""

    async def guarded(request: Request) -> Response:
        operator = await authorise(request.headers)
        if method != "GET":
            logger.info("%s: %s %s", operator.identity, method, asked_path(request.scope))
        return await endpoint(request)

    return Route(path, guarded, methods=[method])


async def read_object(request: Request) -> dict[str, Any]:
    """The JSON object in the body; an empty body is an empty object.

    Raises:
        BadRequest: it is no JSON object.
        TooLarge: it is larger than any that is meant.
        RequestTimeout: it does not arrive.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > LARGEST_BODY:
                    raise TooLarge(f"the body is larger than {LARGEST_BODY} bytes")
    except TimeoutError:
        raise RequestTimeout from None
    try:
        value = json.loads(body) if body.strip() else {}
    except (ValueError, RecursionError):
        raise BadRequest("the body is not JSON") from None
    if not isinstance(value, dict):
        raise BadRequest("the body must be a JSON object")
    return value

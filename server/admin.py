"""The operator's port: metrics and liveness for everybody who reaches it, the rest for operators.

On the callers' port a per-defense counter would tell a thief, one query at a time, what the
server thought of it. Whatever changes something here, or tells more than a counter, needs a key
with the scope ``admin``; where no key can have one, nobody gets it: a port on loopback is open to
every program on the machine, and to every page in its browsers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from prometheus_client import make_asgi_app
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from server.admin_control import control_routes
from server.admin_repository import repository_routes
from server.admission import Caller
from server.hot_reload import HotReload
from server.metrics import Metrics
from server.middleware.opaque_failures import OpaqueFailures
from server.middleware.request_id import RequestId
from server.protocol.error_bodies import install_error_bodies
from server.serving import InferenceService

__all__ = ["Authority", "create_admin_app"]


class Authority(Protocol):
    """Whoever knows who may operate the server."""

    async def authorise(self, headers: Mapping[str, str]) -> Caller:
        """Say who operates; names of ``headers`` are in lower case.

        Raises:
            Unauthorized: no valid key.
            Forbidden: a key without the scope, or there can be none.
            StoreAway: it cannot be told now.
        """
        ...


class _Exposition:
    """``/metrics``, in Prometheus' format or OpenMetrics."""

    def __init__(self, metrics: Metrics) -> None:
        self._app: ASGIApp = make_asgi_app(registry=metrics.registry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


async def _live(request: Request) -> Response:
    del request
    return JSONResponse({"live": True})


def create_admin_app(
    metrics: Metrics,
    authority: Authority | None = None,
    service: InferenceService | None = None,
    reloads: HotReload | None = None,
) -> Starlette:
    """Build the application; starts nothing.

    Args:
        metrics: what ``GET /metrics`` tells.
        authority: decides who may operate.
        service: what is operated.
        reloads: changes what it serves. Without all three there are metrics and liveness alone.
    """
    routes = [
        *(Route(path, _Exposition(metrics), methods=["GET"]) for path in ("/metrics", "/metrics/")),
        *(
            Route(path, _live, methods=["GET"])
            for path in ("/healthz", "/healthz/", "/v2/health/live")
        ),
    ]
    if authority is not None and service is not None and reloads is not None:
        routes += repository_routes(authority.authorise, service, reloads)
        routes += control_routes(authority.authorise, service, reloads)
    app = Starlette(routes=routes, middleware=[Middleware(RequestId), Middleware(OpaqueFailures)])
    app.router.redirect_slashes = False
    install_error_bodies(app)
    return app

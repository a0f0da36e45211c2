"""The operator's port: metrics and liveness, on a port of their own.

On the callers' port a per-defense counter would tell a thief, one query at a time, what the
server thought of it.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from prometheus_client import make_asgi_app

from server.metrics import Metrics

__all__ = ["create_admin_app"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


def create_admin_app(metrics: Metrics) -> Application:
    """An ASGI application: ``GET /metrics`` (Prometheus or OpenMetrics) and ``GET /healthz``."""
    exposition: Application = make_asgi_app(registry=metrics.registry)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ValueError(f"the operator's port speaks HTTP, not {scope['type']}")
        path, method = scope["path"].rstrip("/"), scope["method"]
        if path not in {"/metrics", "/healthz"}:
            await _answer(send, 404, {"error": "not found: there are /metrics and /healthz"})
        elif method not in {"GET", "HEAD"}:
            await _answer(send, 405, {"error": "method not allowed"}, (b"allow", b"GET, HEAD"))
        elif path == "/metrics":
            await exposition(scope, receive, send)
        else:
            await _answer(send, 200, {"live": True})

    return app


async def _answer(
    send: Send, status: int, body: dict[str, Any], *headers: tuple[bytes, bytes]
) -> None:
    encoded = json.dumps(body).encode()
    fixed = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(encoded)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": [*fixed, *headers]})
    await send({"type": "http.response.body", "body": encoded})

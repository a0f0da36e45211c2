"""Whether the server lives, and whether it takes queries: open to all."""

from __future__ import annotations

from fastapi import FastAPI

from server.dataplane import DataPlane
from server.errors import Draining

__all__ = ["add_health_routes"]


def add_health_routes(app: FastAPI, plane: DataPlane) -> None:
    """Add the two health routes of the Open Inference Protocol V2."""

    async def live() -> dict[str, bool]:
        """The process answers."""
        return {"live": True}

    async def ready() -> dict[str, bool]:
        """Queries are accepted: everything is loaded and warm, and nobody stops the server."""
        if not plane.ready:
            raise Draining
        return {"ready": True}

    for template, endpoint in (("/v2/health/live", live), ("/v2/health/ready", ready)):
        app.add_api_route(template, endpoint, methods=["GET"], tags=["health"])

"""``/v1/usage``: what a caller has used of what it may use."""

from __future__ import annotations

from typing import Any

from fastapi import Depends, FastAPI, Request

from server.admission import Caller
from server.routes.query import QueryPath

__all__ = ["add_usage_route"]


def add_usage_route(app: FastAPI, path: QueryPath) -> None:
    """Add the route."""

    async def usage(request: Request) -> dict[str, Any]:
        """What your key has used, and what it may use, in samples; `null` where there is no limit.

        A request that is being answered counts, and counts no more if it fails.
        """
        caller: Caller = request.state.caller
        used = await path.admission.usage(caller)
        allowance = caller.allowance
        rate = None
        if allowance.rate is not None:
            rate = {"samples_per_second": allowance.rate, "burst": allowance.burst}
        return {
            "key": caller.identity,
            "scopes": sorted(caller.scopes),
            "rate": rate,
            "today": {
                "used": None if used is None else used.today,
                "limit": allowance.per_day,
                "resets_at": None if used is None else used.resets_at.isoformat(),
            },
            "lifetime": {
                "used": None if used is None else used.lifetime,
                "limit": allowance.lifetime,
            },
            "expires_at": None if caller.expires is None else caller.expires.isoformat(),
        }

    app.add_api_route(
        "/v1/usage", usage, methods=["GET"], tags=["v1"], dependencies=[Depends(path.identify)]
    )

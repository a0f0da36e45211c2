"""Work for a caller that may hang up before it is done."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

from server.errors import CallerGone

__all__ = ["unless_gone"]

T = TypeVar("T")


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Wait for ``work``, and cancel it as soon as the caller hangs up.

    Nothing but ``work`` may read from ``receive`` meanwhile; the body has been read.

    Raises:
        CallerGone: the caller hung up first.
    """
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_hang_up(receive))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise CallerGone
    finally:
        working.cancel()
        watching.cancel()
        # Both have ended before this returns: nobody's work outlives its request.
        await asyncio.gather(working, watching, return_exceptions=True)


async def _hang_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

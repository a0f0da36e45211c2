"""Requests that are sent twice: how they are known again, and how their answers are kept."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping

import numpy as np
from fastapi import Request
from safetensors.numpy import load, save
from starlette.responses import Response

from server.admission import Grant, Once
from server.dataplane import ModelView
from server.errors import BadRequest, DeadlinePassed
from server.routes.answer import Answer

__all__ = ["once_of", "paid", "unpacked"]

HEADER = "idempotency-key"
LONGEST = 255
INLINE_BYTES = 256 * 1024
"""Bodies that are hashed, and answers that are packed, on the event loop; larger ones go to a
thread."""

DECISIVE = ("content-type", "inference-header-content-length")
"""Headers that decide how a body is read."""


async def once_of(request: Request, view: ModelView, tier: str | None, body: bytes) -> Once | None:
    """What ``request`` is to be known by if it is sent again; None if it does not say.

    Args:
        request: with its headers.
        view: the model and version that answer.
        tier: of the caller: an answer of another one is no answer to it.
        body: decompressed.

    Raises:
        BadRequest: the header is there and cannot be a name.
    """
    key = request.headers.get(HEADER)
    if key is None:
        return None
    if not 0 < len(key) <= LONGEST or not (key.isascii() and key.isprintable()):
        raise BadRequest(f"Idempotency-Key must be 1 to {LONGEST} printable ASCII characters")
    # What the route was chosen by; an address may be made of what the caller says of our name.
    path, query = request.scope["path"], request.scope["query_string"]
    # A version may be published again with other labels; what was stored is not of those.
    made_of = (view.name, view.version, repr(tier), repr(view.labels), repr(view.maps))
    head = ["", *made_of, *(_stated(request.headers, h) for h in DECISIVE), ""]

    def printed() -> bytes:
        digest = hashlib.sha256(f"{request.method} {path}?".encode("utf-8", "surrogateescape"))
        digest.update(query)
        digest.update("\n".join(head).encode("utf-8", "surrogateescape"))
        digest.update(body)
        return digest.digest()

    return Once(key, printed() if len(body) <= INLINE_BYTES else await asyncio.to_thread(printed))


async def paid(
    grant: Grant,
    work: Awaitable[Answer],
    encode: Callable[[Answer], Awaitable[Response]],
    *,
    impatient: bool,
) -> Response:
    """What ``work`` answers, encoded, and ``grant`` told how that ended.

    A caller that hangs up, or that set itself a deadline of less than the server's which then
    passed, has taken the machine's time and pays for it; it may come back for its answer. Whatever
    else keeps it from its answer is not its fault, and costs it nothing.

    Args:
        grant: of the samples.
        work: the model's part.
        encode: from its answer to what leaves.
        impatient: whether the caller's own deadline is the shorter one.
    """
    try:
        answer = await work
        response = await encode(answer)
        kept = await _kept(answer) if grant.keeps else None
    except asyncio.CancelledError:
        grant.left()
        raise
    except DeadlinePassed:
        if impatient:
            grant.left()
        else:
            await grant.unanswered()
        raise
    except Exception:
        await grant.unanswered()
        raise
    await grant.answered(kept)
    return response


def unpacked(stored: bytes, view: ModelView) -> Answer:
    """An answer of ``view`` that was kept, with the same bits."""
    tensors = load(stored)
    return Answer(view, tensors["probabilities"], tensors.get("attributions"))


async def _kept(answer: Answer) -> bytes:
    size = answer.probabilities.nbytes
    if answer.attributions is not None:
        size += answer.attributions.nbytes
    return _packed(answer) if size <= INLINE_BYTES else await asyncio.to_thread(_packed, answer)


def _packed(answer: Answer) -> bytes:
    tensors = {"probabilities": answer.probabilities}
    if answer.attributions is not None:
        tensors["attributions"] = answer.attributions
    return save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()})


def _stated(headers: Mapping[str, str], name: str) -> str:
    return f"{name}: {headers.get(name, '')}"

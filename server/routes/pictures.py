"""A body of encoded images, in any of the forms that ``/v1`` takes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import numpy as np
from fastapi import Request
from numpy.typing import NDArray

from models.card import InputSpec
from server.decoder import ImageDecoder
from server.errors import BadRequest, UnsupportedMedia
from server.images import EncodedImage
from server.protocol.json_bounds import check_image_list
from server.protocol.multipart import parse_multipart
from server.protocol.v1 import decode_base64, decode_json
from server.routes.query import QueryPath

__all__ = ["read_pictures", "undecoded"]

INLINE_BYTES = 64 * 1024
"""Forms and JSON that are taken apart on the event loop; more goes to a thread."""

IMAGE_TYPES = ("image/png", "image/jpeg", "image/webp")


async def read_pictures(
    path: QueryPath, request: Request, body: bytes, *, top_k: int | None
) -> tuple[list[EncodedImage], int | None]:
    """The images of a body, still encoded, and how many labels are wanted of each.

    Args:
        path: knows how many images a request may hold.
        request: whose content type says in which form they are.
        body: decompressed.
        top_k: from the address.

    Raises:
        BadRequest: not what the content type says, or ``top_k`` is given twice and differs.
        UnsupportedMedia: another content type.
        TooLarge: more images than a request may hold.
    """
    content_type = request.headers.get("content-type", "")
    read = partial(_encoded_images, path, content_type, body)
    images, stated = read() if len(body) <= INLINE_BYTES else await asyncio.to_thread(read)
    if stated is not None and top_k not in (None, stated):
        raise BadRequest(f"top_k is {top_k} in the address but {stated} in the body")
    return images, stated if top_k is None else top_k


def undecoded(
    decoder: ImageDecoder, images: list[EncodedImage], spec: InputSpec, caller: str | None
) -> Callable[[], Awaitable[NDArray[np.uint8]]]:
    """What decodes ``images`` and forgets the files: who waits for a model holds none.

    Args:
        decoder: of all pictures.
        images: emptied.
        spec: what they are made to fit.
        caller: who sent them; None: callers are not told apart.
    """

    async def decode() -> NDArray[np.uint8]:
        try:
            return await decoder.decode(images, spec, caller=caller)
        finally:
            images.clear()

    return decode


def _encoded_images(
    path: QueryPath, content_type: str, body: bytes
) -> tuple[list[EncodedImage], int | None]:
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type in IMAGE_TYPES:
        return [EncodedImage("the body", body)], None
    if media_type == "application/json":
        check_image_list(body, max_samples=path.limits.max_request_samples)
        texts, top_k = decode_json(body)
        path.check_samples(len(texts))
        return [
            EncodedImage(f"images[{index}]", decode_base64(text, where=f"images[{index}]"))
            for index, text in enumerate(texts)
        ], top_k
    if media_type == "multipart/form-data":
        return _form(path, content_type, body)
    raise UnsupportedMedia(
        f"content-type must be one of {', '.join(IMAGE_TYPES)}, multipart/form-data or "
        f"application/json"
    )


def _form(path: QueryPath, content_type: str, body: bytes) -> tuple[list[EncodedImage], int | None]:
    # One part more than there may be images: top_k.
    most = path.limits.max_request_samples + 1
    images: list[EncodedImage] = []
    top_k: int | None = None
    for part in parse_multipart(body, content_type, max_parts=most):
        if part.filename is not None:
            images.append(EncodedImage(f"file {len(images)} of the form", part.content))
        elif part.name == "top_k" and top_k is None:
            top_k = _top_k(part.content)
        else:
            raise BadRequest(
                f"the form field {part.name[:64]!r} is not understood: send image files, "
                f"and at most one top_k"
            )
    path.check_samples(len(images))
    return images, top_k


def _top_k(content: bytes) -> int:
    text = content.strip()
    if not text.isdigit() or len(text) > 9 or int(text) < 1:
        raise BadRequest("top_k must be a whole number of at least 1")
    return int(text)

"""V2 requests as bytes: a client that costs next to nothing, so that the server is measured."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

__all__ = ["answer", "exchange", "images", "infer_request"]


def images(count: int, shape: tuple[int, int, int], *, seed: int) -> NDArray[np.uint8]:
    """Noise ``(count, C, H, W)``: what is asked does not matter to the speed of the answer."""
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def infer_request(
    model: str, asked: NDArray[np.uint8], headers: Mapping[str, str] | None = None
) -> bytes:
    """One V2 infer request with a binary tensor ``(n, C, H, W)``, as bytes on the wire."""
    tensor = {
        "name": "images",
        "datatype": "UINT8",
        "shape": list(asked.shape),
        "parameters": {"binary_data_size": asked.nbytes},
    }
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    body = head + asked.tobytes()
    lines = (
        f"POST /v2/models/{model}/infer HTTP/1.1",
        "Host: 127.0.0.1",
        f"Content-Length: {len(body)}",
        f"Inference-Header-Content-Length: {len(head)}",
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def answer(reader: asyncio.StreamReader) -> int:
    """Read one response that states its Content-Length; return its status."""
    return (await exchange(reader))[0]


async def exchange(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Read one response that states its Content-Length; return its status and body."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    length = next(int(line[15:]) for line in lines if line.lower().startswith("content-length:"))
    return int(lines[0].split()[1]), await reader.readexactly(length)

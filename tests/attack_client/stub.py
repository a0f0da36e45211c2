"""A server written from the Open Inference Protocol V2 alone, which can be told to misbehave."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

SHAPE = (1, 8, 8)
CLASSES = 5
MAPS = (2, 2)


class LinearModel:
    """softmax(a W x + b): a classifier that a clone can learn from random images."""

    def __init__(
        self, shape: tuple[int, int, int] = SHAPE, classes: int = CLASSES, *, seed: int = 0
    ) -> None:
        rng = np.random.default_rng(seed)
        self.shape, self.classes = shape, classes
        self._weights = rng.normal(size=(prod(shape), classes))

    def __call__(self, images: NDArray[Any]) -> NDArray[np.float32]:
        flat = images.reshape(len(images), -1).astype(np.float64) / 255 - 0.5
        logits = 3.0 * flat @ self._weights
        exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares = exponents / exponents.sum(axis=1, keepdims=True)
        return np.asarray(shares, dtype=np.float32)

    def images(self, count: int, *, seed: int = 1) -> NDArray[np.uint8]:
        """Random images of its shape."""
        size = (count, *self.shape)
        return np.random.default_rng(seed).integers(0, 256, size=size, dtype=np.uint8)


def quarters(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Maps ``(n, 2, 2)``: how bright each quarter of an image is."""
    count, _, height, width = images.shape
    split = images[:, 0].reshape(count, 2, height // 2, 2, width // 2)
    return np.asarray(split.mean(axis=(2, 4)) / 255, dtype=np.float32)


@dataclass(frozen=True)
class Fault:
    """What happens to one inference request instead of an answer.

    Attributes:
        status: of the answer.
        headers: extra headers.
        body: of the answer.
        cut: announce more body than is sent, then close the connection.
        charged: whether the samples are computed and counted all the same.
    """

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b'{"error": "no"}'
    cut: bool = False
    charged: bool = False


class Stub:
    """An ASGI application serving ``model`` under the name ``toy``."""

    def __init__(
        self,
        model: LinearModel,
        *,
        datatype: str = "UINT8",
        binary: bool = True,
        json_answers: bool = False,
        key: str | None = None,
        idempotent: bool = False,
        delay_s: float = 0.0,
        metadata: dict[str, Any] | None = None,
        server_metadata_status: int = 200,
        maps: bool = False,
        usage: dict[str, Any] | Callable[[], dict[str, Any]] | None = None,
        logits: bool = False,
        most: int | None = None,
    ) -> None:
        self.model = model
        self.datatype, self.binary, self.json_answers = datatype, binary, json_answers
        self.key, self.idempotent, self.delay_s = key, idempotent, delay_s
        self.server_metadata_status = server_metadata_status
        self.usage = usage
        self.refuse: str | None = None
        """``reset``: every connection is dropped without an answer."""
        self.metadata = metadata or {
            "name": "toy",
            "platform": "numpy",
            "inputs": [{"name": "images", "datatype": datatype, "shape": [-1, *model.shape]}],
            "outputs": [
                {"name": "probabilities", "datatype": "FP32", "shape": [-1, model.classes]}
            ],
        }
        self.logits = logits
        """Answers are ten times the logarithms of the model's, and ten."""
        self.most = most
        """Images of one request; the metadata says so, and more is answered 400."""
        if most is not None:
            self.metadata["inputs"][0]["shape"][0] = most
            self.metadata["outputs"][0]["shape"][0] = most
        if maps:
            announced = {"name": "attributions", "datatype": "FP32", "shape": [-1, *MAPS]}
            self.metadata["outputs"].append(announced)
        self.explained = 0
        """Samples answered with a map."""
        self.faults: deque[Fault | None] = deque()
        """Of the next inference requests, in order; None is answered as ever."""
        self.samples = 0
        """Samples computed and charged."""
        self.requests: list[tuple[str | None, tuple[str, ...]]] = []
        """Of each inference request: its idempotency key and the digests of its images."""
        self.in_flight = self.most_in_flight = 0
        self._answered: dict[str, bytes] = {}

    @property
    def thefts(self) -> list[tuple[str, tuple[str, ...]]]:
        """Of ``requests``, those of a theft: honest ones have no key, or one that says so."""
        return [
            (key, digests)
            for key, digests in self.requests
            if key is not None and not key.startswith("honest-")
        ]

    @property
    def honest(self) -> list[tuple[str | None, tuple[str, ...]]]:
        """Of ``requests``, all others."""
        return [one for one in self.requests if one[0] is None or one[0].startswith("honest-")]

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": f"{message['type']}.complete"})
                if message["type"] == "lifespan.shutdown":
                    return None
        if self.refuse == "reset":
            return await _drop(send)
        headers = {k.decode().lower(): v.decode() for k, v in scope["headers"]}
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        if self.key is not None and headers.get("authorization") != f"Bearer {self.key}":
            return await _reply(send, 401, b'{"error": "a valid API key is required"}')
        match scope["method"], scope["path"]:
            case "GET", "/v2":
                extensions = ["binary_tensor_data"] if self.binary else []
                document = {"name": "stub", "version": "1", "extensions": extensions}
                status = self.server_metadata_status
                return await _reply(send, status, json.dumps(document).encode())
            case "GET", "/v1/usage" if self.usage is not None:
                usage = self.usage() if callable(self.usage) else self.usage
                return await _reply(send, 200, json.dumps(usage).encode())
            case "GET", "/v2/models/toy":
                return await _reply(send, 200, json.dumps(self.metadata).encode())
            case "POST", "/v2/models/toy/infer":
                self.in_flight += 1
                self.most_in_flight = max(self.most_in_flight, self.in_flight)
                try:
                    return await self._infer(headers, body, send)
                finally:
                    self.in_flight -= 1
        return await _reply(send, 404, b'{"error": "not found"}')

    async def _infer(self, headers: dict[str, str], body: bytes, send: Send) -> None:
        await asyncio.sleep(self.delay_s)
        if self.refuse == "reset":
            return await _drop(send)
        images, wanted = self._decode(headers, body)
        if self.most is not None and len(images) > self.most:
            return await _reply(send, 400, b'{"error": "too many images"}')
        key = headers.get("idempotency-key")
        digests = tuple(hashlib.sha256(image.tobytes()).hexdigest() for image in images)
        self.requests.append((key, digests))
        fault = self.faults.popleft() if self.faults else None
        if fault is None or fault.charged:
            if not (self.idempotent and key in self._answered):
                self.samples += len(images)
            self._answered[key or ""] = body
        if fault is not None:
            return await _reply(
                send, fault.status, fault.body, extra=fault.headers, missing=100 * fault.cut
            )
        outputs: list[dict[str, Any]] = []
        payload = b""
        for name, wants_binary in wanted.items():
            values = quarters(images) if name == "attributions" else self.model(images)
            if self.logits and name != "attributions":
                values = 10 * np.log(np.maximum(values, np.float32(1e-30))) + 10
            self.explained += len(images) if name == "attributions" else 0
            output: dict[str, Any] = {"name": name, "datatype": "FP32", "shape": list(values.shape)}
            if not wants_binary or self.json_answers:
                output["data"] = [float(value) for value in values.ravel()]
            else:
                raw = values.astype("<f4").tobytes()
                output["parameters"] = {"binary_data_size": len(raw)}
                payload += raw
            outputs.append(output)
        head = json.dumps({"model_name": "toy", "outputs": outputs}).encode()
        extra = (("inference-header-content-length", str(len(head))),) if payload else ()
        return await _reply(send, 200, head + payload, extra=extra)

    def _decode(self, headers: dict[str, str], body: bytes) -> tuple[NDArray[Any], dict[str, bool]]:
        length = headers.get("inference-header-content-length")
        head = json.loads(body if length is None else body[: int(length)])
        [tensor] = head["inputs"]
        assert tensor["datatype"] == self.datatype
        dtype = {"UINT8": "u1", "FP32": "<f4"}[self.datatype]
        if "data" in tensor:
            values = np.array(tensor["data"], dtype=dtype)
        else:
            assert self.binary
            assert length is not None
            raw = body[int(length) :]
            assert tensor["parameters"]["binary_data_size"] == len(raw)
            values = np.frombuffer(raw, dtype=dtype)
        images = values.reshape(tensor["shape"])
        if self.datatype == "FP32":
            assert images.max() <= 1
            images = np.round(images * 255).astype(np.uint8)
        return images, {
            output["name"]: bool(output.get("parameters", {}).get("binary_data"))
            for output in head["outputs"]
        }


async def _drop(send: Send) -> None:
    """Begin an answer and close the connection: what a dying server does."""
    headers = [(b"content-length", b"1000")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"..."})


async def _reply(
    send: Send,
    status: int,
    body: bytes,
    *,
    extra: tuple[tuple[str, str], ...] = (),
    missing: int = 0,
) -> None:
    headers = [(b"content-length", str(len(body) + missing).encode())]
    headers += [(name.encode(), value.encode()) for name, value in extra]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

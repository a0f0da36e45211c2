"""A victim behind a URL: any server that speaks the Open Inference Protocol V2."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
import numpy as np
from numpy.typing import NDArray

from attack_client import v2
from attack_client.address import LOOPBACK, clean_url, sendable
from attack_client.contract import ExplainedReply, Reply, VictimFacts
from attack_client.errors import AttackError, ProtocolError, Refused
from attack_client.query_allowance import Allowance
from attack_client.retry import RetryPolicy
from attack_client.sending import Sender
from attack_client.v2_metadata import ModelSignature, model_path, read_signature, speaks_binary

__all__ = ["HttpVictim"]

Parsed = TypeVar("Parsed")


class HttpVictim:
    """Queries one model over HTTP; use it as an asynchronous context manager.

    Entering reads the server's and the model's metadata. Requests that fail in a way that may
    pass are sent again under the same idempotency key.

    Args:
        url: of the server, for instance ``http://127.0.0.1:8080``; a path prefix is kept.
        model: name of the served model, ``NAME`` or ``NAME/VERSION``.
        api_key: sent as ``Authorization: Bearer``; never logged, printed or recorded.
        shape: ``(C, H, W)`` for a model whose metadata leaves its input size open.
        softmax: the model answers with logits; probabilities are made of them.
        timeout_s: for connecting, and for every read and write.
        retry: when to ask again.
        seed: of the jitter.
        transport: in place of sockets, for instance ``httpx.ASGITransport(app)``.
        sleep: in place of ``asyncio.sleep``.

    Raises:
        AttackError: the URL is not one of http or https, the model's name is none, or the key
            cannot be a header.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        api_key: str | None = None,
        shape: tuple[int, int, int] | None = None,
        softmax: bool = False,
        timeout_s: float = 60.0,
        retry: RetryPolicy | None = None,
        seed: int = 0,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._url, self._host = clean_url(url)
        if not model.isprintable():
            raise AttackError(f"the model's name {model!r} must hold no control characters")
        self._model, _, version = model.partition("/")
        self._path = model_path(self._model, version or None)
        self._name = model
        self._api_key = sendable(api_key)
        self._shape = shape
        self._softmax = softmax
        self._timeout_s = timeout_s
        self._retry = retry or RetryPolicy()
        self._random = random.Random(seed)  # noqa: S311 - jitter is no secret
        self._transport = transport
        self._sleep = sleep
        self._client: httpx.AsyncClient | None = None
        self._sender: Sender | None = None
        self._signature: ModelSignature | None = None
        self._binary = False

    def __repr__(self) -> str:
        return f"HttpVictim({self._url!r}, {self._name!r})"

    @property
    def facts(self) -> VictimFacts:
        """What the metadata says.

        Raises:
            RuntimeError: the victim has not been entered.
        """
        signature = self._entered()
        return VictimFacts(
            url=self._url,
            model=self._name,
            shape=signature.shape,
            classes=signature.classes,
            maps=signature.maps,
            map_cost=signature.map_cost,
            batch=signature.batch,
            softmax=self._softmax,
        )

    async def __aenter__(self) -> Self:
        headers = {"User-Agent": "intaglio"}
        if self._api_key is not None:
            headers["Authorization"] = f"Bearer {self._api_key}"
        try:
            self._client = httpx.AsyncClient(
                base_url=self._url + "/",
                headers=headers,
                timeout=httpx.Timeout(self._timeout_s, pool=None),
                # How many requests are in flight is the oracle's business.
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
                transport=self._transport,
                # A proxy from the environment cannot reach this machine's own loopback.
                trust_env=self._host not in LOOPBACK,
            )
        except ValueError:
            # The proxy's URL may hold a password, and the error its URL.
            raise AttackError("the proxy settings of the environment cannot be used") from None
        self._sender = Sender(
            self._client,
            self._url,
            retry=self._retry,
            jitter=self._random,
            sleep=self._sleep,
        )
        try:
            metadata, _ = await self._sender.send(
                "GET", self._path, _object("the model's metadata")
            )
            self._binary = await self._speaks_binary()
            self._signature = read_signature(metadata, shape=self._shape)
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections; does nothing the second time."""
        client, self._client, self._sender = self._client, None, None
        if client is not None:
            await client.aclose()

    async def query(
        self,
        images: NDArray[np.uint8],
        *,
        key: str | None = None,
        sending: Callable[[], None] | None = None,
    ) -> Reply:
        """Answer for ``images`` ``(n, C, H, W)`` uint8; each image is one query.

        Args:
            images: of the model's input shape.
            key: sent as ``Idempotency-Key``.
            sending: called right before every attempt; if it raises, nothing is sent.

        Raises:
            ProtocolError: the images do not fit the model, or the answers cannot be read.
            Refused: a status that asking again does not change; ``OverBudget`` for 429.
            Unreachable: no connection, or none that lasted, however often it was tried.
        """
        signature = self._fitting(images)

        def parse(response: httpx.Response) -> NDArray[np.float32]:
            told = (signature, response.headers, response.content)
            return v2.decode_answer(*told, count=len(images), softmax=self._softmax)

        headers, body = v2.encode_query(signature, images, binary=self._binary)
        probabilities, sends = await self._ask(parse, headers, body, key, sending)
        return Reply(probabilities=probabilities, sends=sends)

    async def explain(
        self,
        images: NDArray[np.uint8],
        *,
        key: str | None = None,
        sending: Callable[[], None] | None = None,
    ) -> ExplainedReply:
        """As ``query``, with an attribution map for each image; a server may charge more for it.

        Raises:
            ProtocolError: as ``query``; or the model announces no maps, and nothing was sent.
            VictimError: those of ``query``.
        """
        signature = self._fitting(images)
        if signature.maps is None:
            raise ProtocolError(f"the model {self._name!r} at {self._url} announces no maps")

        def parse(response: httpx.Response) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            told = (signature, response.headers, response.content)
            count = len(images)
            said = v2.decode_answer(*told, count=count, softmax=self._softmax)
            return said, v2.decode_maps(*told, count=count)

        headers, body = v2.encode_query(signature, images, binary=self._binary, explain=True)
        (said, maps), sends = await self._ask(parse, headers, body, key, sending)
        return ExplainedReply(probabilities=said, attributions=maps, sends=sends)

    def _fitting(self, images: NDArray[np.uint8]) -> ModelSignature:
        signature = self._entered()
        if images.dtype != np.uint8 or images.shape[1:] != signature.shape or not len(images):
            raise ProtocolError(
                f"images are {images.dtype} {images.shape}, "
                f"not uint8 (n, {', '.join(map(str, signature.shape))})"
            )
        return signature

    async def _ask(
        self,
        parse: Callable[[httpx.Response], Parsed],
        headers: dict[str, str],
        body: bytes,
        key: str | None,
        sending: Callable[[], None] | None,
    ) -> tuple[Parsed, int]:
        if key is not None:
            headers["Idempotency-Key"] = key
        path = f"{self._path}/infer"
        return await self._open().send(
            "POST", path, parse, headers=headers, body=body, sending=sending
        )

    async def allowance(self) -> Allowance | None:
        """What this key may still ask; None where the server does not tell, or does not count.

        Raises:
            Unreachable: no connection, or none that lasted.
        """
        try:
            usage, _ = await self._open().send("GET", "v1/usage", _object("the caller's usage"))
        except (Refused, ProtocolError):
            # It is no part of the protocol: most servers have none.
            return None
        return Allowance.read(usage)

    async def _speaks_binary(self) -> bool:
        try:
            server, _ = await self._open().send("GET", "v2", _object("the server's metadata"))
        except Refused:
            # A gateway may let models through and nothing else; JSON is always understood.
            return False
        return speaks_binary(server)

    def _open(self) -> Sender:
        if self._sender is None:
            raise RuntimeError("the victim is used outside 'async with'")
        return self._sender

    def _entered(self) -> ModelSignature:
        if self._signature is None:
            raise RuntimeError("the victim is used before 'async with'")
        return self._signature


def _object(what: str) -> Callable[[httpx.Response], dict[str, Any]]:
    def parse(response: httpx.Response) -> dict[str, Any]:
        return v2.parse_json(response.content, what)

    return parse

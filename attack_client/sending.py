"""One request over HTTP until it is answered or given up."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import httpx

from attack_client.errors import OverBudget, ProtocolError, Refused, Unreachable, VictimError
from attack_client.retry import Failure, Outcome, RetryPolicy, retry_after_s
from attack_client.v2 import error_text
from attack_client.window import Window

__all__ = ["Sender"]

Parsed = TypeVar("Parsed")

HINTS = {
    401: "give a valid key with --api-key or INTAGLIO_API_KEY",
    403: "this key may not query this model",
    404: "check --model and the URL",
    409: "other images were sent under this key before a kill: begin anew with another --out",
    413: "lower --batch",
}

FULL = frozenset({503, 504})
"""Statuses that may mean that too much is in flight."""


@dataclass(frozen=True, slots=True)
class _Answered(Generic[Parsed]):
    said: Parsed


@dataclass(frozen=True, slots=True)
class _Failed:
    failure: Failure
    error: VictimError


class Sender:
    """Sends requests again that fail in a way that may pass, fewer at once if the victim is full.

    Args:
        client: open; its owner closes it.
        url: of the server, for sentences.
        retry: when to ask again.
        jitter: draws how long to wait.
        sleep: waits.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        url: str,
        *,
        retry: RetryPolicy,
        jitter: random.Random,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._client = client
        self._url = url
        self._retry = retry
        self._random = jitter
        self._sleep = sleep
        self._window = Window()

    async def send(
        self,
        method: str,
        path: str,
        parse: Callable[[httpx.Response], Parsed],
        *,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
        sending: Callable[[], None] | None = None,
    ) -> tuple[Parsed, int]:
        """One request until it is answered or given up; what it said, and how often it went.

        Args:
            method: of HTTP.
            path: below the server's URL.
            parse: makes the result of an answer; what it cannot read is asked for again.
            headers: beside those of every request.
            body: of the request.
            sending: called right before every attempt; what it raises is passed on.

        Raises:
            ProtocolError: what ``parse`` raised, however often it was tried.
            Refused: a status that asking again does not change; ``OverBudget`` for 429.
            Unreachable: no connection, or none that lasted, however often it was tried.
        """
        sends, waited_s = 0, 0.0
        place = self._window.place()
        while True:
            sends += 1
            async with self._window.turn(place) as cuts:
                if sending is not None:
                    sending()
                got = await self._attempt(method, path, parse, headers, body)
                if isinstance(got, _Failed) and got.failure.status in FULL:
                    self._window.refused(cuts)
            if not isinstance(got, _Failed):
                self._window.answered()
                return got.said, sends
            delay_s = self._retry.delay_s(
                got.failure, attempt=sends, waited_s=waited_s, draw=self._random.random()
            )
            if delay_s is None:
                if sends > 1:
                    got.error.args = (f"{got.error}, after {sends} attempts",)
                raise got.error
            waited_s += delay_s
            await self._sleep(delay_s)

    async def _attempt(
        self,
        method: str,
        path: str,
        parse: Callable[[httpx.Response], Parsed],
        headers: dict[str, str] | None,
        body: bytes | None,
    ) -> _Answered[Parsed] | _Failed:
        """One attempt: what it said, or how it failed if that may pass."""
        error: VictimError
        try:
            response = await self._client.request(method, path, headers=headers, content=body)
            if response.status_code == httpx.codes.OK:
                return _Answered(parse(response))
            after_s = retry_after_s(response.headers.get("Retry-After"))
            failure = Failure(Outcome.STATUS, response.status_code, after_s)
            return _Failed(failure, self._refusal(response, after_s))
        except (ProtocolError, httpx.DecodingError) as garbled:
            error = ProtocolError(f"{self._url}/{path}: {garbled}")
            error.__cause__ = garbled
            return _Failed(Failure(Outcome.GARBLED), error)
        except (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError) as lost:
            error = Unreachable(f"{self._url} does not answer ({_reason(lost)})")
            error.__cause__ = lost
            return _Failed(Failure(Outcome.LOST), error)
        except httpx.LocalProtocolError:
            # Its text, and the chain of causes, may quote a header: the key is one.
            raise Unreachable(f"{self._url} cannot be queried (an illegal request)") from None
        except (httpx.HTTPError, httpx.InvalidURL) as broken:
            raise Unreachable(f"{self._url} cannot be queried ({_reason(broken)})") from broken

    def _refusal(self, response: httpx.Response, after_s: float | None) -> Refused:
        status = response.status_code
        said = error_text(response.content)
        hint = HINTS.get(status)
        sentence = f"{self._url} answered {status}: {said}" + (f" ({hint})" if hint else "")
        if status == httpx.codes.TOO_MANY_REQUESTS:
            wait = "" if after_s is None else f" (try again in {after_s:.0f} s with --resume)"
            return OverBudget(sentence + wait, status=status, after_s=after_s)
        return Refused(sentence, status=status)


def _reason(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return text if len(text) <= 160 else text[:160] + "..."

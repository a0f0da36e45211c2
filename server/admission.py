"""Who asks, and may they: the step between a protocol and the data plane.

A caller is identified from headers, before a byte of its body is read, and admitted once it is
known how many samples it asks for. What admits gives a grant, which is told how it ended: what
was not answered is not charged.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from server.errors import Forbidden, Unauthorized

__all__ = [
    "UNLIMITED",
    "Admission",
    "Allowance",
    "Caller",
    "Grant",
    "Once",
    "OpenAdmission",
    "StaticKeys",
    "Usage",
    "key_digest",
    "presented_key",
]

ASKING = frozenset({"infer", "explain"})


@dataclass(frozen=True, slots=True)
class Allowance:
    """How much a caller may ask, in samples; None wherever there is no limit.

    Attributes:
        rate: samples a second, in the long run.
        burst: samples at once. Windows of ``burst / rate`` seconds hold about as many; the worst
            of them, between two bursts, holds almost twice as many.
        per_day: samples between one midnight UTC and the next.
        lifetime: samples ever.
    """

    rate: float | None = None
    burst: int | None = None
    per_day: int | None = None
    lifetime: int | None = None


UNLIMITED = Allowance()


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who asks.

    Attributes:
        identity: stable and free of secrets; what limits and budgets are counted against.
        tier: which of a model's victims and chains answers; None: the one for everybody.
        scopes: what it may do, out of ``infer`` (predictions), ``explain`` (attribution maps) and
            ``admin`` (the operator's port).
        allowance: how much of it.
        expires: when its key ends; None: never.
    """

    identity: str
    tier: str | None = None
    scopes: frozenset[str] = ASKING
    allowance: Allowance = UNLIMITED
    expires: datetime | None = None

    def require(self, scope: str) -> None:
        """Refuse what this caller may not do.

        Raises:
            Forbidden: it has not that scope.
        """
        if scope not in self.scopes:
            raise Forbidden(f"this API key does not have the scope {scope!r}")


@dataclass(frozen=True, slots=True)
class Once:
    """A request that is to be charged and answered once, however often it is sent.

    Attributes:
        key: the caller's name for it.
        print: digest of all that decides the answer: model, version and request.
    """

    key: str
    print: bytes


@dataclass(frozen=True, slots=True)
class Usage:
    """What a caller has been charged, in samples.

    Attributes:
        today: since midnight UTC.
        lifetime: ever; where nothing outlives the server, since it started.
        resets_at: the next midnight.
    """

    today: int
    lifetime: int
    resets_at: datetime


class Grant:
    """Samples that were counted, until it is known whether they are answered.

    Exactly one of the three methods is called, once. This one counts nothing.

    Attributes:
        replayed: whether this request was charged before, under the same idempotency key.
        stored: what it was answered then, if that was kept: the answer, without asking again.
        keeps: whether the answer is kept for a replay, if it is small enough.
        balance: samples by which this request has changed its caller's account, so far.
    """

    balance: int = 0
    keeps: bool = False
    replayed: bool = False
    stored: bytes | None = None

    async def answered(self, answer: bytes | None) -> None:
        """The samples are paid for; ``answer`` is what a replay gets, None unless it ``keeps``."""
        del answer

    async def unanswered(self) -> None:
        """The request failed, and not because its caller left: give the samples back."""

    def left(self) -> None:
        """The caller hung up, or would not wait: it stays charged, and a replay may ask again."""


class Admission(Protocol):
    """The seam for whatever decides about callers: keys, scopes, limits, budgets."""

    async def identify(self, headers: Mapping[str, str]) -> Caller:
        """Say who sends a request with these ``headers`` (names in lower case).

        Raises:
            Unauthorized: no valid key.
            StoreAway: it cannot be told now.
        """
        ...

    async def admit(
        self, caller: Caller, samples: int, once: Once | None = None, *, patience_s: float = 10.0
    ) -> Grant:
        """Let ``caller`` ask ``samples`` queries, which counts them from here on.

        Cancelled before it has returned, it has counted nothing, or gives back what it has.

        Args:
            caller: as identified.
            samples: at least 1.
            once: the caller's name for the request, if it gave one.
            patience_s: how long a replay waits for the first request to be answered.

        Raises:
            CallerOverLimit: not now, or not any more.
            TooLarge: so many could never be asked at once.
            Conflict: ``once`` names another request.
            StoreAway: it cannot be told now.
            Unavailable: the first request is still being answered.
        """
        ...

    async def usage(self, caller: Caller) -> Usage | None:
        """What ``caller`` has been charged; None where nothing is counted.

        Raises:
            StoreAway: it cannot be told now.
        """
        ...


class OpenAdmission:
    """Anybody may ask, and nobody is told apart."""

    async def identify(self, headers: Mapping[str, str]) -> Caller:
        """Return the one anonymous caller."""
        del headers
        return Caller("anonymous")

    async def admit(
        self, caller: Caller, samples: int, once: Once | None = None, *, patience_s: float = 10.0
    ) -> Grant:
        """Admit; nothing is counted, so nothing could be counted twice."""
        del caller, samples, once, patience_s
        return Grant()

    async def usage(self, caller: Caller) -> Usage | None:
        """Nothing is counted."""
        del caller
        return None


class StaticKeys:
    """Keys of the configuration, without limits.

    They are presented as ``Authorization: Bearer KEY`` or ``X-API-Key: KEY``.

    Keys are kept as SHA-256 digests; a presented key is compared with every one of them in
    constant time, so that neither a match nor its position shows in the time taken.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = tuple(key_digest(key) for key in keys)

    async def identify(self, headers: Mapping[str, str]) -> Caller:
        """Return the caller that owns the presented key.

        Raises:
            Unauthorized: no key, or none that is known.
        """
        presented = presented_key(headers)
        if presented is None:
            raise Unauthorized
        digest = key_digest(presented)
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        if not any(matches):
            raise Unauthorized
        return Caller(f"key-{digest.hex()[:12]}")


def key_digest(key: str) -> bytes:
    """SHA-256 of a key: what is kept in its place."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def presented_key(headers: Mapping[str, str]) -> str | None:
    """The key in ``headers``, which have lower-case names; None if there is none."""
    scheme, _, credentials = headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() == "bearer" and credentials.strip():
        return credentials.strip()
    return headers.get("x-api-key", "").strip() or None

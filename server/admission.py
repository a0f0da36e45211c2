"""Who asks, and may they: the step between a protocol and the data plane.

A caller is identified from headers, before a byte of its body is read, and admitted once it is
known how many samples it asks for.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from server.errors import Unauthorized

__all__ = ["Admission", "Caller", "KeyAdmission", "OpenAdmission"]


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who asks.

    Attributes:
        identity: stable and free of secrets; what limits and budgets are counted against.
        tier: which of a model's victims and chains answers; None: the one for everybody.
    """

    identity: str
    tier: str | None = None


class Admission(Protocol):
    """The seam for whatever decides about callers: keys, scopes, limits, budgets."""

    async def identify(self, headers: Mapping[str, str]) -> Caller:
        """Say who sends a request with these ``headers`` (names in lower case).

        Raises:
            Unauthorized: no valid key.
        """
        ...

    async def admit(self, caller: Caller, samples: int) -> None:
        """Let ``caller`` ask ``samples`` queries, which counts them from here on.

        Raises:
            Forbidden: the caller may not do that at all.
            CallerOverLimit: not now, or not any more.
        """
        ...


class OpenAdmission:
    """Anybody may ask, and nobody is told apart."""

    async def identify(self, headers: Mapping[str, str]) -> Caller:
        """Return the one anonymous caller."""
        del headers
        return Caller("anonymous")

    async def admit(self, caller: Caller, samples: int) -> None:
        """Admit."""
        del caller, samples


class KeyAdmission:
    """Whoever has one of ``keys`` may ask, as ``Authorization: Bearer KEY`` or ``X-API-Key: KEY``.

    Keys are kept as SHA-256 digests; a presented key is compared with every one of them in
    constant time, so that neither a match nor its position shows in the time taken.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = tuple(_digest(key) for key in keys)

    async def identify(self, headers: Mapping[str, str]) -> Caller:
        """Return the caller that owns the presented key.

        Raises:
            Unauthorized: no key, or none that is known.
        """
        presented = _presented_key(headers)
        if presented is None:
            raise Unauthorized
        digest = _digest(presented)
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        if not any(matches):
            raise Unauthorized
        return Caller(f"key-{digest.hex()[:12]}")

    async def admit(self, caller: Caller, samples: int) -> None:
        """Admit: a key without limits."""
        del caller, samples


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _presented_key(headers: Mapping[str, str]) -> str | None:
    scheme, _, credentials = headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() == "bearer" and credentials.strip():
        return credentials.strip()
    return headers.get("x-api-key", "").strip() or None

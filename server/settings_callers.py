"""The settings about callers: their keys, what is remembered of them, and where."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import Field, SecretStr, field_validator

from server.settings_sections import Positive, Seconds, Section
from server.settings_values import Place, named_host

__all__ = ["AuditSettings", "CallerSettings", "IdempotencySettings", "RedisSettings"]


class RedisSettings(Section):
    """The Redis that replicas share: keys, limits and budgets of callers."""

    url: SecretStr | None = None
    """``redis://HOST:PORT/DB``, ``rediss://`` or ``unix://``; a password in it stays secret.
    ``ssl_ca_certs=FILE``, ``client_name=NAME`` and the like may follow a ``?``; what this section
    has a setting for may not."""

    password_file: Place | None = None
    """Holds the password of Redis; instead of one in the address."""

    timeout_ms: Annotated[float, Field(ge=1.0, le=60_000.0)] = 250.0
    """How long Redis may take to answer, connecting included; beyond that it counts as away."""

    connections: Annotated[int, Field(ge=1, le=10_000)] = 64
    """Connections that one process opens at most."""

    prefix: Annotated[str, Field(min_length=1, max_length=64)] = "intaglio"
    """Begins the name of everything that is kept there."""

    @field_validator("url")
    @classmethod
    def _an_address_of_redis(cls, url: SecretStr | None) -> SecretStr | None:
        # Never the address itself, nor a part of it: it may hold a password.
        if url is None:
            return url
        address = url.get_secret_value()
        scheme = address.partition("://")[0]
        if scheme not in SCHEMES:
            raise ValueError(f"must begin with {', '.join(f'{scheme}://' for scheme in SCHEMES)}")
        if "#" in address:
            # The rest would be left out: of a password, the host and the database with it.
            raise ValueError("must not hold a #: write # in a password as %23")
        try:
            parts = urlsplit(address)
            named_host(unquote(parts.hostname or ""))
            place = unquote(parts.path)
            # A database that is no number would be left out, and be another one.
            if "\0" in place or (scheme != "unix" and not DATABASE.fullmatch(place)):
                raise ValueError
            given = parse_qs(parts.query).keys()
        except ValueError:
            raise ValueError("this is not an address of Redis") from None
        if not given <= ADDRESS_OPTIONS:
            raise ValueError(
                f"has an option after the ? that is none of {', '.join(sorted(ADDRESS_OPTIONS))}"
            )
        return url


DATABASE = re.compile(r"/?([0-9]+/?)?")

SCHEMES = ("redis", "rediss", "unix")

ADDRESS_OPTIONS = frozenset(
    (
        "client_name", "db", "health_check_interval", "password", "protocol", "socket_keepalive",
        "ssl_ca_certs", "ssl_ca_path", "ssl_cert_reqs", "ssl_certfile", "ssl_check_hostname",
        "ssl_ciphers", "ssl_keyfile", "ssl_password", "username",
    )
)  # fmt: skip
"""What an address may say beyond the place. The client takes whatever its constructors have, much
of which cannot be said in text, and some of which would change what it returns."""


class CallerSettings(Section):
    """Who may ask: where keys are kept that have scopes, limits and budgets."""

    store: Annotated[str, Field(pattern=r"^(open|file|redis)$")] = "open"
    """``open``: no such keys; anybody may ask, or whoever has one of ``api_keys``. ``file``: keys
    and budgets of this one process, in files. ``redis``: those of all replicas, in Redis."""

    file: Place | None = None
    """Where ``file`` keeps the keys; default: ``keys.json`` under ``state_dir``."""

    ledger: Place | None = None
    """Where ``file`` keeps what was asked; default: ``ledger.jsonl`` under ``state_dir``."""


class IdempotencySettings(Section):
    """Requests that are sent again under one Idempotency-Key: charged and answered once."""

    window_s: Seconds = 600.0
    """How long a key is remembered, from its first request."""

    max_requests: Positive = 1000
    """Keys remembered for each caller; beyond that the oldest is forgotten. Times
    ``max_answer_bytes``, this is what a caller can fill of Redis."""

    max_answer_bytes: Annotated[int, Field(ge=0)] = 16 * 2**10
    """Largest answer that is kept; a larger one is computed again, and not charged again."""

    max_memory_bytes: Annotated[int, Field(ge=0)] = 64 * 2**20
    """Answers that one process keeps in memory; Redis is bounded by its own ``maxmemory``."""


class AuditSettings(Section):
    """A record of every request: who asked how much of what, and what came of it."""

    directory: Place | None = None
    """Where records are written, as JSON lines; default: none are."""

    max_bytes: Annotated[int, Field(ge=4096)] = 64 * 2**20
    """Size at which a file is closed and the next one begun."""

    files: Positive = 100
    """Files that are kept in the directory; the oldest are removed."""

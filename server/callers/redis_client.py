"""The client of Redis, built from the settings; connects to nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from server.errors import ConfigurationError
from server.settings_callers import RedisSettings

__all__ = ["redis_client"]


def redis_client(settings: RedisSettings) -> Any:
    """A ``redis.asyncio.Redis`` over a bounded pool of connections that give up early.

    Args:
        settings: with a ``url``.

    Raises:
        ConfigurationError: there is no client library, no password in the file that should hold
            one, or the client cannot use the address. No sentence quotes address or password.
    """
    assert settings.url is not None
    try:
        import redis.asyncio
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
        from redis.exceptions import RedisError
    except ImportError:
        raise ConfigurationError(
            "callers.store: redis needs its client library: pip install 'intaglio[redis]'"
        ) from None
    timeout_s = settings.timeout_ms / 1000
    options: dict[str, Any] = {}
    if settings.password_file is not None:
        options["password"] = _password(settings.password_file)
    try:
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            settings.url.get_secret_value(),
            max_connections=settings.connections,
            timeout=timeout_s,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            # A second try would double what a paused Redis costs.
            retry=Retry(NoBackoff(), 0),
            **options,
        )
        # The options of the address are looked at when a connection is built, and not before. It
        # is not connected.
        pool.make_connection()  # type: ignore[no-untyped-call]
    except (TypeError, ValueError, RedisError):
        raise ConfigurationError(
            "redis.url: this is not an address of Redis, or has an option that its client cannot "
            "use with it"
        ) from None
    return redis.asyncio.Redis(connection_pool=pool)


def _password(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigurationError(f"redis.password_file: {path}: {error.strerror}") from error
    except UnicodeDecodeError:  # which quotes what it has read
        raise ConfigurationError(f"redis.password_file: {path} is not text in UTF-8") from None

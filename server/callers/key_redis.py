"""Keys in Redis: every replica reads the record at every request, so a change counts at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from models.validation import first_problem
from server.callers.key_store import Change, KeyStoreError
from server.callers.keys import KeyRecord
from server.callers.redis_link import RedisLink
from server.errors import StoreAway

__all__ = ["RedisKeys"]

TRIES = 100
"""Changes of the same key by others that may come between reading and writing it."""

REPLACE = """
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
"""


class RedisKeys:
    """A hash in Redis, from id to record. Nothing is remembered here, not even for a second.

    Args:
        link: to Redis.
    """

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._place = f"{link.prefix}:keys"

    async def find(self, name: str) -> KeyRecord | None:
        """See ``KeyStore``.

        Raises:
            KeyStoreError: it holds something else than a record.
            StoreAway: Redis does not answer.
        """
        text = await self._link.call("keys", lambda: self._link.client.hget(self._place, name))
        return None if text is None else self._read(name, text)

    async def records(self) -> Sequence[KeyRecord]:
        """See ``KeyStore``."""
        found = await self._asked(lambda: self._link.client.hgetall(self._place))
        records = [self._read(name.decode(), text) for name, text in found.items()]
        return sorted(records, key=lambda record: record.created)

    async def change(self, name: str, change: Change) -> KeyRecord:
        """See ``KeyStore``."""

        async def until_nobody_interferes() -> KeyRecord:
            client = self._link.client
            for _ in range(TRIES):
                before = await client.hget(self._place, name)
                record = change(None if before is None else self._read(name, before))
                after = record.model_dump_json()
                if await client.eval(REPLACE, 1, self._place, name, before or b"", after):
                    return record
            raise KeyStoreError(f"the key {name} is being changed by others, try again")

        changed: KeyRecord = await self._asked(until_nobody_interferes)
        return changed

    async def _asked(self, work: Any) -> Any:
        try:
            return await self._link.call("keys", work)
        except StoreAway as error:
            raise KeyStoreError(f"Redis does not answer: {error.__cause__ or error}") from error

    def _read(self, name: str, text: bytes) -> KeyRecord:
        try:
            return KeyRecord.model_validate_json(text)
        except ValidationError as error:
            problem = first_problem(error, root="record")
            raise KeyStoreError(
                f"{self._place} in Redis has no record of {name!r}: {problem}"
            ) from None

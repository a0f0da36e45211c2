"""Keys in a file and in Redis: the same promises."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from benchmarks.redis_server import RedisServer
from server.callers.assembly import build_callers, open_key_store
from server.callers.key_file import KeyFile
from server.callers.key_store import KeyStore
from server.callers.keys import KeyRecord, new_key
from server.errors import ConfigurationError, KeyStoreError, Unauthorized
from server.settings import Settings
from tests.server.callers.conftest import in_files, in_redis

pytestmark = pytest.mark.anyio


async def put(store: KeyStore, record: KeyRecord) -> None:
    await store.change(record.id, lambda _: record)


async def test_what_was_put_is_found(stored: Settings) -> None:
    first, second = new_key(name="a", per_day=3).record, new_key(name="b").record
    async with open_key_store(stored) as store:
        assert await store.find(first.id) is None
        await put(store, second)
        await put(store, first)
        assert await store.find(first.id) == first
        assert list(await store.records()) == [first, second]


async def test_another_process_sees_a_change_at_its_next_look(stored: Settings) -> None:
    record = new_key(per_day=1).record
    async with open_key_store(stored) as server, open_key_store(stored) as command:
        await put(command, record)
        assert await server.find(record.id) == record
        for limit in range(2, 12):
            await put(command, record.model_copy(update={"per_day": limit}))
            found = await server.find(record.id)
            assert found is not None
            assert found.per_day == limit


async def test_changes_of_one_record_do_not_overwrite_each_other(stored: Settings) -> None:
    record = new_key(per_day=1).record

    def more(before: KeyRecord | None) -> KeyRecord:
        assert before is not None
        assert before.per_day is not None
        return before.model_copy(update={"per_day": before.per_day + 1})

    async def ten_times() -> None:
        async with open_key_store(stored) as store:
            for _ in range(10):
                await store.change(record.id, more)

    async with open_key_store(stored) as store:
        await put(store, record)
        await asyncio.gather(ten_times(), ten_times(), ten_times())
        changed = await store.find(record.id)
    assert changed is not None
    assert changed.per_day == 31


async def test_what_a_change_raises_changes_nothing(stored: Settings) -> None:
    record = new_key().record

    def refuse(_: KeyRecord | None) -> KeyRecord:
        raise LookupError("no")

    async with open_key_store(stored) as store:
        await put(store, record)
        with pytest.raises(LookupError):
            await store.change(record.id, refuse)
        assert await store.find(record.id) == record


async def test_a_file_of_keys_is_private_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "keys.json"
    await put(KeyFile(path), new_key().record)
    assert path.stat().st_mode & 0o077 == 0
    assert sorted(os.listdir(path.parent)) == [".keys.json.lock", "keys.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"keys": [{"id": "x"}]}', '{"users": []}'])
async def test_a_broken_file_lets_nobody_in(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.json"
    store = KeyFile(path)
    record = new_key().record
    await put(store, record)
    path.write_text(text)
    with pytest.raises(KeyStoreError, match=r"keys\.json is not a file of keys") as refused:
        await store.find(record.id)
    assert "\n" not in str(refused.value)
    path.unlink()
    assert await store.find(record.id) is None


async def test_a_server_does_not_start_on_keys_that_it_cannot_read(tmp_path: Path) -> None:
    settings = in_files(tmp_path)
    key = new_key()
    async with open_key_store(settings) as store:
        await put(store, key.record)
    path = tmp_path / "keys.json"
    good = path.read_text()

    async def start() -> None:
        callers = build_callers(settings)
        try:
            await callers.start()
            await callers.admission.identify({"x-api-key": key.secret})
        finally:
            await callers.close()

    await start()
    for text in (good[:-9], "", "{}{}", "\x00"):
        path.write_text(text)
        with pytest.raises(
            ConfigurationError, match=r"^callers\.file: .*/keys\.json is not a file"
        ):
            await start()
    path.unlink()
    path.mkdir()
    with pytest.raises(ConfigurationError, match=r"^callers\.file: .*/keys\.json cannot be read"):
        await start()
    path.rmdir()
    os.mkfifo(path)  # whose end nobody would ever see
    with pytest.raises(ConfigurationError, match=r"^callers\.file: .* not a regular file"):
        await start()
    path.unlink()
    with pytest.raises(Unauthorized):  # no file yet is a store without keys
        await start()


async def test_keys_and_ledger_need_a_file_each(tmp_path: Path) -> None:
    settings = in_files(tmp_path)
    for files in (
        {"ledger": tmp_path / "keys.json"},
        {"file": tmp_path / "ledger.jsonl"},
        {"file": tmp_path / "one", "ledger": tmp_path / "." / "here" / ".." / "one"},
    ):
        callers = settings.callers.model_copy(update=files)
        with pytest.raises(ConfigurationError, match=r"callers\.ledger: .* is the file of the key"):
            build_callers(settings.model_copy(update={"callers": callers}))
    build_callers(settings)


async def test_a_record_in_redis_that_is_none_is_refused(redis_server: RedisServer) -> None:
    redis_server.client().hset("intaglio:keys", "0123456789ab", b"{}")
    async with open_key_store(in_redis(redis_server)) as store:
        with pytest.raises(KeyStoreError, match="has no record of '0123456789ab'"):
            await store.find("0123456789ab")


async def test_a_date_without_a_time_zone_is_named(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    record = new_key().record
    naive = {**record.model_dump(mode="json"), "expires": "2030-01-01T00:00:00"}
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": [naive]}))
    with pytest.raises(KeyStoreError, match=r"keys\.0\.expires: .*timezone"):
        await KeyFile(path).find(record.id)
    redis_server.client().hset("intaglio:keys", record.id, json.dumps(naive))
    async with open_key_store(in_redis(redis_server)) as store:
        with pytest.raises(KeyStoreError, match=r"record of '.*': expires: .*timezone"):
            await store.find(record.id)


async def test_a_command_without_its_store_says_so(redis_server: RedisServer) -> None:
    settings = in_redis(redis_server, timeout_ms=50)
    redis_server.stop()
    async with open_key_store(settings) as store:
        with pytest.raises(KeyStoreError, match="Redis does not answer"):
            await store.records()
    with pytest.raises(ConfigurationError, match=r"callers\.store: open keeps no keys"):
        async with open_key_store(Settings(model_dir=Path("unused"))):
            pass

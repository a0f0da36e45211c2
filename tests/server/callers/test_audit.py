"""The audit: a line for every query, with nothing in it that must not be there."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from server.app import create_app
from server.audit import AuditEntry, AuditLog
from server.callers.assembly import build_callers
from server.callers.metrics import CallerMetrics
from server.errors import ConfigurationError, InternalFailure
from server.evidence import Evidence
from server.seeds import query_seeds
from server.settings import Settings
from server.settings_callers import AuditSettings
from tests.server.callers.serving import PNG, ask, infer, made, used
from tests.server.http.fakes import DIGITS, EXPLAINED, FakePlane, encoded, picture

pytestmark = pytest.mark.anyio

SECRET = b"0" * 16


def opened(directory: Path, registry: CollectorRegistry | None = None, **given: Any) -> AuditLog:
    metrics = CallerMetrics(registry or CollectorRegistry())
    return AuditLog(AuditSettings(directory=directory, **given), Evidence(SECRET), metrics)


def lines(directory: Path) -> list[dict[str, Any]]:
    files = sorted(directory.glob("audit-*.jsonl"))
    return [json.loads(line) for path in files for line in path.read_text().splitlines()]


@asynccontextmanager
async def audited(
    settings: Settings, plane: FakePlane, directory: Path
) -> AsyncIterator[tuple[httpx.AsyncClient, AuditLog]]:
    callers = build_callers(settings)
    await callers.start()
    audit = opened(directory)
    transport = httpx.ASGITransport(app=create_app(plane, settings, None, callers, audit=audit))
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        yield client, audit
    await callers.close()
    audit.close()


@pytest.mark.parametrize(
    ("path", "broken"),
    [
        ("predict", "server.routes.v1.encode_predictions"),
        ("explain", "server.routes.explain.encode_explanations"),
        ("infer", "server.routes.v2.encode_response"),
    ],
)
async def test_an_answer_that_cannot_be_written_is_no_answer(
    stored: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, broken: str
) -> None:
    def fail(*_: Any, **__: Any) -> bytes:
        raise RuntimeError("a bug")

    key = await made(stored, scopes=("infer", "explain"), lifetime=100)
    async with audited(stored, FakePlane(EXPLAINED), tmp_path / "audit") as (client, _):

        async def asked() -> httpx.Response:
            if path == "infer":
                return await infer(client, key, "once", timeout_s=60.0)
            return await ask(client, key, path, once="once")

        with monkeypatch.context() as patched:
            patched.setattr(broken, fail)
            assert (await asked()).status_code == 500
        assert await used(client, key) == (0, 0)
        answered = await asked()
        assert answered.status_code == 200
        cost = 1 if path != "explain" else EXPLAINED.explanation_cost
        assert await used(client, key) == (cost, cost)
        # What was answered before and cannot be written now stays paid for.
        with monkeypatch.context() as patched:
            patched.setattr(broken, fail)
            assert (await asked()).status_code == 500
        assert await used(client, key) == (cost, cost)
    told = [
        (line["status"], line["decision"], line["charged"]) for line in lines(tmp_path / "audit")
    ]
    assert told == [(500, "failed", 0), (200, "answered", cost), (500, "failed", 0)]


async def test_every_query_is_a_line_and_they_add_up_to_the_account(
    stored: Settings, tmp_path: Path
) -> None:
    key = await made(stored, scopes=("infer", "explain"), lifetime=6)
    plane = FakePlane(EXPLAINED)
    directory = tmp_path / "audit"
    async with audited(stored, plane, directory) as (client, _):
        await ask(client, key, once="a")
        await ask(client, key, once="a")
        await ask(client, key, "explain")
        await ask(client, key, "explain")  # over the budget
        plane.failure = InternalFailure()
        await ask(client, key)
        plane.failure = None
        await ask(client, key, content=b"no image")
        await client.post("/v1/models/nobody/predict", headers={"x-api-key": key}, content=PNG)
        today, lifetime = await used(client, key)
    found = lines(directory)
    assert [(line["status"], line["decision"], line["charged"]) for line in found] == [
        (200, "answered", 1),
        (200, "answered", 0),
        (200, "answered", 4),
        (429, "over-limit", 0),
        (500, "failed", 0),
        (400, "bad-request", 0),
        (404, "not-found", 0),
    ]
    assert [line["replayed"] for line in found] == [False, True, *[False] * 5]
    assert today == lifetime == sum(line["charged"] for line in found) == 5
    assert {line["key"] for line in found} == {f"key-{key.split('_')[1]}"}
    assert [line["samples"] for line in found] == [1, 1, 1, 1, 1, 1, 0]
    text = "".join(path.read_text() for path in directory.iterdir())
    assert key not in text
    assert key.removeprefix("intaglio_").partition("_")[2] not in text


async def test_images_are_keyed_hashes_and_no_seed_of_a_defense(tmp_path: Path) -> None:
    settings = Settings(model_dir="unused")
    pixels = picture(DIGITS)
    async with audited(settings, FakePlane(EXPLAINED), tmp_path) as (client, audit):
        confidence = np.array([0.4567], dtype=np.float32)
        audit.evidence.saw("digits/2", pixels[None], confidence)
        audit.evidence.saw("another/1", pixels[None], np.array([0.9], dtype=np.float32))
        audit.evidence.saw("another/1", picture(DIGITS, seed=9)[None], confidence)
        for content in (PNG, PNG, encoded(picture(DIGITS, seed=9))):
            await ask(client, "-", content=content)
    first, second, third = (line["images"][0] for line in lines(tmp_path))
    assert first == second != third
    assert int(first, 16) != int(query_seeds(SECRET, "digits/2", pixels[None])[0])
    assert first == Evidence(SECRET).names(pixels[None])[0]
    assert first != Evidence(b"1" * 16).names(pixels[None])[0]
    assert [line["confidence"] for line in lines(tmp_path)] == [[0.457], [0.457], [None]]


async def test_whoever_hangs_up_is_recorded_with_what_it_pays(
    stored: Settings, tmp_path: Path
) -> None:
    key = await made(stored)
    plane = FakePlane(EXPLAINED)
    plane.gate = asyncio.Event()
    async with audited(stored, plane, tmp_path / "audit") as (client, _):
        asked = asyncio.create_task(ask(client, key))
        await plane.begun.wait()
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        assert await used(client, key) == (1, 1)
    (line,) = lines(tmp_path / "audit")
    assert (line["status"], line["decision"], line["charged"]) == (499, "cancelled", 1)


def entry(**given: Any) -> AuditEntry:
    return AuditEntry("request", "key-a", "digits", **given)


def test_files_are_rotated_and_the_oldest_removed(tmp_path: Path) -> None:
    log = opened(tmp_path, max_bytes=4096, files=3)
    for _ in range(200):
        log.record(entry(samples=1, status=200, decision="answered")).result()
    log.close()
    files = sorted(tmp_path.glob("audit-*.jsonl"))
    assert len(files) == 3
    assert all(path.stat().st_size <= 4096 for path in files)
    assert all(path.stat().st_mode & 0o077 == 0 for path in files)
    assert 30 < len(lines(tmp_path)) < 200


def test_starts_that_come_to_nothing_cost_no_record(tmp_path: Path) -> None:
    log = opened(tmp_path, files=2)
    log.record(entry()).result()
    log.close()
    for _ in range(5):
        opened(tmp_path, files=2).close()
    assert len(list(tmp_path.iterdir())) == len(lines(tmp_path)) == 1
    last = opened(tmp_path, files=1)
    last.record(entry(samples=7)).result()
    last.close()
    assert [line["samples"] for line in lines(tmp_path)] == [7]


def test_a_file_that_is_taken_away_is_begun_anew(tmp_path: Path) -> None:
    log = opened(tmp_path)
    log.record(entry()).result()
    (path,) = tmp_path.glob("audit-*.jsonl")
    path.rename(tmp_path / "taken")
    log.record(entry()).result()
    log.close()
    assert len(lines(tmp_path)) == 1


def test_a_disk_that_is_full_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    registry = CollectorRegistry()
    log = opened(tmp_path, registry)
    with monkeypatch.context() as patched:

        def full(file: int, text: bytes) -> int:
            raise OSError(28, "No space left on device")

        patched.setattr(os, "write", full)
        for _ in range(3):
            log.record(entry()).result()
    log.record(entry()).result()
    log.close()
    failed = registry.get_sample_value("intaglio_store_errors_total", {"function": "audit"})
    assert failed == 3
    assert caplog.text.count("cannot be written") == 1
    assert "is written again" in caplog.text
    assert len(lines(tmp_path)) == 1


def test_a_disk_that_hangs_holds_a_bounded_number_of_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    registry = CollectorRegistry()
    monkeypatch.setattr("server.audit.MOST", 4)
    monkeypatch.setattr("server.audit.LAST_S", 0.05)
    log = opened(tmp_path, registry)
    goes_on, write = threading.Event(), os.write

    def hanging(file: int, text: bytes) -> int:
        assert goes_on.wait(30)
        return write(file, text)

    monkeypatch.setattr(os, "write", hanging)
    try:
        asked = [log.record(entry()) for _ in range(7)]
        assert [done.done() for done in asked] == [False] * 4 + [True] * 3

        def failed() -> float | None:
            return registry.get_sample_value("intaglio_store_errors_total", {"function": "audit"})

        assert failed() == 3
        assert caplog.text.count("too many records wait") == 1
        log.close()
        assert failed() == 7
        assert "4 records end here without being written" in caplog.text
    finally:
        goes_on.set()
    for done in asked:
        done.result(10)


async def test_what_a_stranger_calls_a_model_is_a_short_line(
    stored: Settings, tmp_path: Path
) -> None:
    key = await made(stored)
    name = "%01" * 20_000
    async with audited(stored, FakePlane(EXPLAINED), tmp_path / "audit") as (client, _):
        for _ in range(3):
            url = f"/v1/models/{name}/predict"
            unknown = await client.post(url, headers={"x-api-key": key}, content=PNG)
            assert unknown.status_code == 404
    text = b"".join(path.read_bytes() for path in (tmp_path / "audit").iterdir())
    assert len(text) < 3 * 1000
    assert {line["model"] for line in lines(tmp_path / "audit")} == {"\x01" * 64}


def test_a_directory_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "audit", Path("/proc/self")):
        with pytest.raises(ConfigurationError, match=r"audit\.directory: .* cannot be written"):
            opened(place)


def test_evidence_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.evidence.MOST", 3)
    evidence = Evidence(SECRET)
    images = np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1)
    evidence.saw("digits/2", images, np.linspace(0, 1, 5, dtype=np.float32))
    assert evidence.of("digits/2", evidence.names(images)) == [None, None, 0.5, 0.75, 1.0]


def test_a_victim_that_overflows_is_sure_of_nothing() -> None:
    evidence = Evidence(SECRET)
    images = np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1)
    evidence.saw("digits/2", images, np.array([0.5, np.nan, np.inf], dtype=np.float32))
    assert evidence.of("digits/2", evidence.names(images)) == [0.5, None, None]

"""What a request costs: answered, refused, failed, sent again; and what a caller is told of it."""

from __future__ import annotations

import asyncio
import threading
from datetime import datetime
from typing import Any

import httpx
import pytest

from models.card import InputSpec
from server.errors import DeadlinePassed, InternalFailure, QueueFull
from server.images import EncodedImage, decode_image
from server.routes import replays
from server.routes.answer import Answer
from server.settings import Settings
from tests.server.callers.serving import PNG, ask, changed, infer, made, served, used
from tests.server.http.fakes import DIGITS, EXPLAINED, FakePlane, encoded, error_of, picture

pytestmark = pytest.mark.anyio

OTHER = encoded(picture(DIGITS, seed=7))


async def test_answers_are_charged_and_refusals_are_not(stored: Settings) -> None:
    key = await made(stored, scopes=("infer", "explain"), per_day=6, lifetime=100)
    async with served(stored) as (client, _):
        assert await used(client, key) == (0, 0)
        assert (await ask(client, key)).status_code == 200
        assert await used(client, key) == (1, 1)
        assert (await ask(client, key, "explain")).status_code == 200
        assert await used(client, key) == (5, 5)
        refused = await ask(client, key, "explain")
        assert "has 1 left until midnight UTC" in error_of(refused, 429)
        assert int(refused.headers["retry-after"]) <= 86_400
        assert (await ask(client, key, content=b"no image")).status_code == 400
        assert (await ask(client, key)).status_code == 200
        assert (await ask(client, key)).status_code == 429
        assert await used(client, key) == (6, 6)


async def test_a_lifetime_that_is_used_up_tells_nobody_to_wait(stored: Settings) -> None:
    key = await made(stored, lifetime=1)
    async with served(stored) as (client, _):
        assert (await ask(client, key)).status_code == 200
        refused = await ask(client, key)
        assert "may ask 1 samples and has 0 left" in error_of(refused, 429)
        assert "retry-after" not in refused.headers


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (InternalFailure(), 500),
        (QueueFull(retry_after=1), 503),
        (DeadlinePassed(), 504),
        (RuntimeError("a bug"), 500),
    ],
)
async def test_our_own_failures_cost_nothing(
    stored: Settings, failure: Exception, status: int
) -> None:
    key = await made(stored, lifetime=2)
    plane = FakePlane(EXPLAINED)
    async with served(stored, plane) as (client, _):
        plane.failure = failure
        for once in (None, "once", "once"):
            assert (await ask(client, key, once=once)).status_code == status
        assert await used(client, key) == (0, 0)
        plane.failure = None
        assert (await ask(client, key, once="once")).status_code == 200
        assert await used(client, key) == (1, 1)


async def test_a_request_that_is_sent_again_is_charged_once_and_answered_alike(
    stored: Settings,
) -> None:
    key = await made(stored, lifetime=1)
    plane = FakePlane(EXPLAINED)
    async with (
        served(stored, plane) as (client, _),
        served(stored_again(stored), plane) as (
            elsewhere,
            _,
        ),
    ):
        first = await ask(client, key, once="a")
        assert first.status_code == 200
        places = (client,) if stored.callers.store == "file" else (client, elsewhere)
        for place in places * 2:
            again = await ask(place, key, once="a")
            assert again.status_code == 200
            assert again.content == first.content
        assert len(plane.asked) == 1
        assert "another request" in error_of(await ask(client, key, once="a", content=OTHER), 409)
        assert (await ask(client, key, once="b")).status_code == 429
        assert await used(client, key) == (1, 1)


@pytest.mark.parametrize("once", [None, "once"])
async def test_who_sets_itself_a_shorter_deadline_pays_when_it_passes(
    stored: Settings, once: str | None
) -> None:
    key = await made(stored, lifetime=2)
    plane = FakePlane(EXPLAINED)
    async with served(stored, plane) as (client, _):
        plane.failure = DeadlinePassed()
        assert (await infer(client, key, once, timeout_s=60.0)).status_code == 504
        assert await used(client, key) == (0, 0)
        assert (await infer(client, key, once, timeout_s=5.0)).status_code == 504
        assert await used(client, key) == (1, 1)
        plane.failure = QueueFull(retry_after=1)
        assert (await infer(client, key, "another", timeout_s=5.0)).status_code == 503
        assert await used(client, key) == (1, 1)
        if once is not None:
            # It may come back for its answer, as it asked or not at all.
            plane.failure = None
            assert (await infer(client, key, once, timeout_s=60.0)).status_code == 409
            assert (await infer(client, key, once, timeout_s=5.0)).status_code == 200
            assert await used(client, key) == (1, 1)


async def test_another_tier_is_never_given_what_was_kept(stored: Settings) -> None:
    key = await made(stored, tier="partner")
    plane = FakePlane(EXPLAINED)
    async with served(stored, plane) as (client, _):
        assert (await ask(client, key, once="a")).status_code == 200
        await changed(stored, key, tier=None)
        assert "another request" in error_of(await ask(client, key, once="a"), 409)
        assert (await ask(client, key, once="b")).status_code == 200
        assert len(plane.asked) == 2
        assert await used(client, key) == (2, 2)


def stored_again(settings: Settings) -> Settings:
    """The same store for another replica; a file belongs to one, so that gets another."""
    if settings.callers.store == "redis":
        return settings
    return Settings(**{**dict(settings), "state_dir": settings.state_dir / "other"})


async def test_maps_are_answered_alike_too(stored: Settings) -> None:
    key = await made(stored, scopes=("infer", "explain"), lifetime=4)
    plane = FakePlane(EXPLAINED)
    async with served(stored, plane) as (client, _):
        first = await ask(client, key, "explain", once="a")
        again = await ask(client, key, "explain", once="a")
        assert first.content == again.content
        assert plane.explained == 1
        # The same body at another address is another request.
        assert (await ask(client, key, once="a")).status_code == 409


async def test_only_answers_that_are_kept_are_packed_and_large_ones_off_the_loop(
    stored: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, packed, threads = await made(stored), replays._packed, list[int]()

    def watched(answer: Answer) -> bytes:
        threads.append(threading.get_ident())
        return packed(answer)

    monkeypatch.setattr(replays, "_packed", watched)
    here = threading.get_ident()
    async with served(stored) as (client, _):
        assert (await ask(client, key)).status_code == 200
        assert threads == []
        first = await ask(client, key, once="small")
        assert threads == [here]
        monkeypatch.setattr(replays, "INLINE_BYTES", 1)
        assert (await ask(client, key, once="large")).status_code == 200
        assert len(threads) == 2
        assert threads[1] != here
        assert (await ask(client, key, once="large")).json() == first.json()
        assert len(threads) == 2


async def test_who_hangs_up_while_its_answer_is_packed_may_come_back(
    stored: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, packed = await made(stored), replays._packed
    begun, may_end = threading.Event(), threading.Event()

    def slow(answer: Answer) -> bytes:
        begun.set()
        may_end.wait(30)
        return packed(answer)

    monkeypatch.setattr(replays, "INLINE_BYTES", 1)
    monkeypatch.setattr(replays, "_packed", slow)
    async with served(stored) as (client, _):
        asked = asyncio.create_task(ask(client, key, once="once"))
        assert await asyncio.to_thread(begun.wait, 30)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        may_end.set()
        assert (await ask(client, key, once="once")).status_code == 200
        assert await used(client, key) == (1, 1)


async def test_a_replay_waits_for_the_first_request(stored: Settings) -> None:
    key = await made(stored, lifetime=1)
    plane = FakePlane(EXPLAINED)
    plane.gate = asyncio.Event()
    async with served(stored, plane) as (client, _):
        first = asyncio.create_task(ask(client, key, once="a"))
        await plane.begun.wait()
        again = asyncio.create_task(ask(client, key, once="a"))
        await asyncio.sleep(0.1)
        assert not again.done()
        plane.gate.set()
        answers = await asyncio.gather(first, again)
        assert [answer.status_code for answer in answers] == [200, 200]
        assert answers[0].content == answers[1].content
        assert len(plane.asked) == 1
        assert await used(client, key) == (1, 1)


async def test_a_replay_does_not_wait_for_ever(stored: Settings) -> None:
    settings = Settings(**{**dict(stored), "batching": {"deadline_s": 1.0}})
    key = await made(settings)
    plane = FakePlane(EXPLAINED)
    plane.gate = asyncio.Event()
    async with served(settings, plane) as (client, _):
        first = asyncio.create_task(ask(client, key, once="a"))
        await plane.begun.wait()
        refused = await ask(client, key, once="a")
        assert "still being answered" in error_of(refused, 503)
        assert int(refused.headers["retry-after"]) >= 1
        plane.gate.set()
        assert (await first).status_code == 200


async def test_replays_take_their_share_of_the_rate(stored: Settings) -> None:
    key = await made(stored, rate=0.01, burst=3)
    async with served(stored) as (client, _):
        statuses = [(await ask(client, key, once="a")).status_code for _ in range(5)]
        assert statuses == [200, 200, 200, 429, 429]
        assert await used(client, key) == (1, 1)


@pytest.mark.parametrize("name", ["", "a" * 256, "\tname", "nämé"])
async def test_a_name_that_is_none_is_refused(stored: Settings, name: str) -> None:
    key = await made(stored)
    async with served(stored) as (client, _):
        headers = [(b"x-api-key", key.encode()), (b"idempotency-key", name.encode("latin-1"))]
        refused = await client.post(
            "/v1/models/digits/predict",
            content=PNG,
            headers=[*headers, (b"content-type", b"image/png")],
        )
        assert "Idempotency-Key must be 1 to 255" in error_of(refused, 400)
        assert await used(client, key) == (0, 0)


async def test_keys_of_the_configuration_are_counted_and_answered_once_as_well() -> None:
    settings = Settings(model_dir="unused", api_keys=("static",))
    plane = FakePlane(EXPLAINED)
    async with served(settings, plane) as (client, _):
        answers = [await ask(client, "static", once="a") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200] * 3
        assert len(plane.asked) == 1
        assert await used(client, "static") == (1, 1)


async def test_usage_tells_a_caller_what_it_has_and_nothing_of_the_server(
    stored: Settings,
) -> None:
    key = await made(stored, tier="partner", rate=5.0, burst=50, per_day=100)
    async with served(stored) as (client, _):
        await ask(client, key)
        told = (await client.get("/v1/usage", headers={"x-api-key": key})).json()
        resets = datetime.fromisoformat(told["today"].pop("resets_at"))
        assert (resets.hour, resets.minute, resets.utcoffset()) == (0, 0, resets.utcoffset())
        assert told.pop("key").startswith("key-")
        assert told == {
            "scopes": ["infer"],
            "rate": {"samples_per_second": 5.0, "burst": 50},
            "today": {"used": 1, "limit": 100},
            "lifetime": {"used": 1, "limit": None},
            "expires_at": None,
        }
        assert (await client.get("/v1/usage")).status_code == 401


async def test_where_anybody_may_ask_nothing_is_counted() -> None:
    settings = Settings(model_dir="unused")
    async with served(settings) as (client, _):
        assert (await ask(client, "whatever", once="a")).status_code == 200
        told: httpx.Response = await client.get("/v1/usage")
        assert told.json()["today"]["used"] is None


@pytest.mark.parametrize("limits", [{"lifetime": 1}, {"rate": 0.01, "burst": 1}])
async def test_nothing_is_decoded_for_who_may_not_ask(
    stored: Settings, monkeypatch: pytest.MonkeyPatch, limits: dict[str, Any]
) -> None:
    key = await made(stored, **limits)
    decoded: list[str] = []

    def note(image: EncodedImage, spec: InputSpec, **options: Any) -> Any:
        decoded.append(image.where)
        return decode_image(image, spec, **options)

    monkeypatch.setattr("server.decoder.decode_image", note)
    async with served(stored) as (client, _):
        assert (await ask(client, key)).status_code == 200
        assert len(decoded) == 1
        for _ in range(3):
            assert (await ask(client, key)).status_code == 429
        assert len(decoded) == 1
        assert await used(client, key) == (1, 1)


async def test_what_does_not_decode_costs_its_rate_and_nothing_else(stored: Settings) -> None:
    key = await made(stored, rate=0.01, burst=2, lifetime=2)
    async with served(stored) as (client, _):
        for once in ("a", "a"):
            assert (await ask(client, key, once=once, content=b"no image")).status_code == 400
            assert await used(client, key) == (0, 0)
        assert (await ask(client, key, content=b"no image")).status_code == 429


async def test_a_replay_is_answered_though_the_budget_is_used_up(stored: Settings) -> None:
    key = await made(stored, lifetime=1)
    async with served(stored) as (client, _):
        first, again = [await ask(client, key, once="a") for _ in range(2)]
        assert (first.status_code, again.status_code) == (200, 200)
        assert again.content == first.content
        assert (await ask(client, key, once="b")).status_code == 429
        assert await used(client, key) == (1, 1)


async def test_who_hangs_up_while_its_image_is_decoded_pays(
    stored: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await made(stored)
    begun, go_on = threading.Event(), threading.Event()

    def slow(image: EncodedImage, spec: InputSpec, **options: Any) -> Any:
        begun.set()
        assert go_on.wait(30)
        return decode_image(image, spec, **options)

    monkeypatch.setattr("server.decoder.decode_image", slow)
    async with served(stored) as (client, _):
        asked = asyncio.create_task(ask(client, key, once="a"))
        await asyncio.to_thread(begun.wait, 30)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        go_on.set()
        assert await used(client, key) == (1, 1)
        assert (await ask(client, key, once="a")).status_code == 200
        assert await used(client, key) == (1, 1)

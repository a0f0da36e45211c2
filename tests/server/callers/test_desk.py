"""Keys at the callers' port: who is let in, to what, and who operates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from benchmarks.redis_server import RedisServer
from server.callers.assembly import build_callers
from server.callers.authority import AdminAuthority
from server.callers.keys import new_key
from server.errors import Forbidden, Unauthorized
from server.settings import Settings
from tests.server.callers.conftest import in_redis
from tests.server.callers.serving import ask, changed, made, served
from tests.server.http.fakes import DIGITS, EXPLAINED, FakePlane, error_of, picture

pytestmark = pytest.mark.anyio


async def test_a_key_opens_what_its_scopes_say(stored: Settings) -> None:
    infer = await made(stored, scopes=("infer",))
    explain = await made(stored, scopes=("explain",))
    both = await made(stored, scopes=("infer", "explain"))
    admin = await made(stored, scopes=("admin",))
    async with served(stored) as (client, _):
        for key, predicts, explains in (
            (infer, 200, 403),
            (explain, 403, 200),
            (both, 200, 200),
            (admin, 403, 403),
        ):
            assert (await ask(client, key)).status_code == predicts
            assert (await ask(client, key, "explain")).status_code == explains
        refused = await ask(client, infer, "explain")
        assert "does not have the scope 'explain'" in error_of(refused, 403)


async def test_a_map_asked_for_in_a_tensor_request_needs_its_scope_too(stored: Settings) -> None:
    infer = await made(stored)
    both = await made(stored, scopes=("infer", "explain"))
    pixels = picture(DIGITS)
    body = {
        "inputs": [
            {
                "name": "images", "datatype": "UINT8", "shape": [1, 1, 8, 8],
                "data": pixels.flatten().tolist(),
            }
        ],
        "outputs": [{"name": "attributions"}],
    }  # fmt: skip
    async with served(stored) as (client, _):
        path = "/v2/models/digits/infer"
        refused = await client.post(path, json=body, headers={"x-api-key": infer})
        assert "scope 'explain'" in error_of(refused, 403)
        given = await client.post(path, json=body, headers={"x-api-key": both})
        assert given.status_code == 200


async def test_strangers_and_keys_that_ended_are_all_alike(stored: Settings) -> None:
    now = datetime.now(UTC)
    revoked, expired = await made(stored, revoked=now), await made(stored, expires=now)
    good = await made(stored)
    forged = good[:-1] + ("A" if good[-1] != "A" else "B")
    async with served(stored) as (client, _):
        sentences = {
            error_of(await ask(client, key), 401)
            for key in (revoked, expired, forged, "nonsense", new_key().secret)
        }
        assert len(sentences) == 1
        assert (await client.get("/v1/models")).status_code == 401


async def test_changes_count_at_the_next_request(stored: Settings) -> None:
    key = await made(stored)
    async with served(stored) as (client, _):
        assert (await ask(client, key)).status_code == 200
        await changed(stored, key, scopes=("explain",))
        assert (await ask(client, key)).status_code == 403
        await changed(stored, key, revoked=datetime.now(UTC))
        assert (await ask(client, key)).status_code == 401


async def test_changes_count_on_every_replica_at_once(redis_server: RedisServer) -> None:
    stored = in_redis(redis_server)
    key = await made(stored)
    async with served(stored) as (one, _), served(stored) as (other, _):
        for fields, status in (({}, 200), ({"scopes": ("explain",)}, 403), ({}, 403)):
            await changed(stored, key, **fields)
            assert [(await ask(client, key)).status_code for client in (one, other)] == [status] * 2


async def test_a_rate_is_kept_by_all_replicas_together(redis_server: RedisServer) -> None:
    stored = in_redis(redis_server)
    key = await made(stored, rate=0.01, burst=10)
    async with served(stored) as (one, _), served(stored) as (other, _):
        statuses = [(await ask(client, key)).status_code for client in (one, other) * 7]
        refused = await ask(one, key)
    assert statuses == [200] * 10 + [429] * 4
    assert int(refused.headers["retry-after"]) > 1


async def test_an_explanation_takes_its_multiple(stored: Settings) -> None:
    key = await made(stored, scopes=("infer", "explain"), rate=0.01, burst=10)
    async with served(stored) as (client, _):
        statuses = [(await ask(client, key, "explain")).status_code for _ in range(3)]
        assert statuses == [200, 200, 429]
        assert [(await ask(client, key)).status_code for _ in range(3)] == [200, 200, 429]


async def test_the_tier_of_a_key_reaches_the_caller(stored: Settings) -> None:
    key = await made(stored, tier="partner")
    async with served(stored) as (_, callers):
        assert (await callers.admission.identify({"x-api-key": key})).tier == "partner"


async def test_keys_of_the_configuration_work_beside_those_of_the_store(stored: Settings) -> None:
    settings = Settings(**{**dict(stored), "api_keys": ("static one",)})
    key = await made(settings)
    async with served(settings) as (client, _):
        assert (await ask(client, "static one")).status_code == 200
        assert (await ask(client, key)).status_code == 200
        assert (await ask(client, "static two")).status_code == 401


async def test_a_key_that_moved_to_the_configuration_goes_on_working(stored: Settings) -> None:
    moved = new_key().secret
    settings = Settings(**{**dict(stored), "api_keys": (moved,)})
    async with served(settings) as (client, _):
        assert (await ask(client, moved)).status_code == 200
        assert (await ask(client, new_key().secret)).status_code == 401


async def test_only_an_admin_operates(stored: Settings) -> None:
    admin, infer = await made(stored, scopes=("admin",)), await made(stored)
    async with served(stored) as (_, callers):
        gate = callers.authority
        assert (await gate.authorise({"authorization": f"Bearer {admin}"})).scopes == {"admin"}
        with pytest.raises(Forbidden, match="scope 'admin'"):
            await gate.authorise({"authorization": f"Bearer {infer}"})
        for headers in ({}, {"x-api-key": "nonsense"}):
            await _refused(gate, headers)


async def _refused(gate: AdminAuthority, headers: Mapping[str, str]) -> None:
    with pytest.raises(Unauthorized):
        await gate.authorise(headers)


async def test_without_a_store_nobody_operates() -> None:
    settings = Settings(model_dir="unused", api_keys=("static",))
    with pytest.raises(Forbidden, match=r"set callers\.store"):
        await build_callers(settings).authority.authorise({"x-api-key": "static"})


async def test_a_key_whose_time_is_over_while_the_server_runs(stored: Settings) -> None:
    key = await made(stored, expires=datetime.now(UTC) + timedelta(hours=1))
    async with served(stored, FakePlane(replace(EXPLAINED))) as (client, _):
        assert (await ask(client, key)).status_code == 200
        await changed(stored, key, expires=datetime.now(UTC))
        assert (await ask(client, key)).status_code == 401

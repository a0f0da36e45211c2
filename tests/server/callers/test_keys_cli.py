"""``intaglio keys``."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from benchmarks.redis_server import RedisServer
from intaglio.cli import main
from server.settings import Settings
from tests.server.callers.serving import ask, served


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    config = tmp_path / "serve.yaml"
    config.write_text(f"state_dir: {tmp_path}\ncallers: {{store: file}}\n")
    return ["keys", "--config", str(config)]


def run(*arguments: str, status: int = 0) -> Result:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == status, result.output
    return result


def listed(options: list[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run(*options, "list", "--json").stdout)
    return found


def test_the_life_of_a_key(options: list[str], tmp_path: Path) -> None:
    assert "no keys yet" in run(*options, "list").stdout
    limits = ("--rate", "100", "--burst", "500", "--per-day", "10000", "--lifetime", "50000")
    made = run(*options, "create", "--name", "alice", "--tier", "partner", *limits)
    secret = made.stdout.strip()
    assert "only time" in made.stderr
    (record,) = listed(options)
    assert secret.startswith(f"intaglio_{record['id']}_")
    assert (record["rate"], record["burst"]) == (100, 500)
    assert (record["per_day"], record["lifetime"]) == (10_000, 50_000)
    assert record["tier"] == "partner"
    table = run(*options, "list").stdout
    assert "alice" in table
    name = record["id"]
    run(*options, "change", name, "--per-day", "5", "--clear", "lifetime", "--scope", "explain")
    (record,) = listed(options)
    assert (record["per_day"], record["lifetime"]) == (5, None)
    assert record["scopes"] == ["explain"]
    assert record["name"] == "alice"
    again = run(*options, "rotate", name, "--grace", "1h").stdout.strip()
    assert again != secret
    assert again.startswith(f"intaglio_{name}_")
    run(*options, "revoke", name)
    (record,) = listed(options)
    assert record["revoked"]
    assert "revoked" in run(*options, "rotate", name, status=2).stderr
    kept = (tmp_path / "keys.json").read_text()
    assert secret[22:] not in kept
    assert again[22:] not in kept


def test_a_new_rate_leaves_a_burst_that_was_set_alone(options: list[str]) -> None:
    def limits() -> tuple[float | None, int | None]:
        (record,) = listed(options)
        return record["rate"], record["burst"]

    run(*options, "create", "--rate", "100", "--burst", "500")
    name = listed(options)[0]["id"]
    run(*options, "change", name, "--rate", "50")
    assert limits() == (50, 500)
    refused = run(*options, "change", name, "--rate", "7", status=2)
    assert "--rate: the key keeps its burst of 500 samples, which at 7 a second" in refused.stderr
    assert refused.stderr.rstrip().endswith("give --burst too")
    assert limits() == (50, 500)
    run(*options, "change", name, "--rate", "7", "--burst", "70")
    assert limits() == (7, 70)
    run(*options, "change", name, "--clear", "rate")
    assert limits() == (None, None)
    # It has none that could be kept, as a new key has none.
    run(*options, "change", name, "--rate", "3")
    assert limits() == (3, 30)
    run(*options, "change", name, "--clear", "rate", "--rate", "7")
    assert limits() == (7, 70)


@pytest.mark.parametrize("rate", ["0", "-1", "nan", "inf", "1e300", "1e-320"])
def test_a_rate_that_cannot_be_is_named(options: list[str], rate: str) -> None:
    run(*options, "create", "--rate", "5")
    before = listed(options)
    for command in (("create",), ("change", before[0]["id"])):
        refused = run(*options, *command, "--rate", rate, status=2)
        assert "--rate" in refused.stderr or "--burst" in refused.stderr
        assert "Traceback" not in refused.output
    assert listed(options) == before


@pytest.fixture
def kept(stored: Settings, tmp_path: Path) -> list[str]:
    """Options that name a store of each kind."""
    url = stored.redis.url
    config = tmp_path / "kept.yaml"
    config.write_text(
        f"state_dir: {stored.state_dir}\ncallers: {{store: {stored.callers.store}}}\n"
        + ("" if url is None else f"redis: {{url: '{url.get_secret_value()}', timeout_ms: 5000}}")
    )
    return ["keys", "--config", str(config)]


def status_of(settings: Settings, key: str) -> int:
    async def asked() -> int:
        async with served(settings) as (client, _):
            return (await ask(client, key)).status_code

    return asyncio.run(asked())


@pytest.mark.parametrize(
    ("said", "lasts"), [("--lost", [200, 401, 200]), ("--deployed", [401, 200, 200])]
)
def test_who_rotates_again_says_which_secret_keeps_working(
    stored: Settings, kept: list[str], said: str, lasts: list[int]
) -> None:
    secret = run(*kept, "create").stdout.strip()
    name = listed(kept)[0]["id"]
    first = run(*kept, "rotate", name, "--grace", "24h").stdout.strip()
    before = listed(kept)
    refused = run(*kept, "rotate", name, "--grace", "24h", status=2)
    assert refused.stdout == ""
    (sentence,) = refused.stderr.splitlines()
    until = datetime.fromisoformat(before[0]["replaced_until"])
    assert f"in the grace of an earlier rotation, until {until:%Y-%m-%d %H:%M}Z: " in sentence
    assert "say --lost (" in sentence
    assert "or --deployed (" in sentence
    assert listed(kept) == before
    again = run(*kept, "rotate", name, "--grace", "24h", said).stdout.strip()
    assert [status_of(stored, key) for key in (secret, first, again)] == lasts
    at_once = run(*kept, "rotate", name).stdout.strip()
    assert [status_of(stored, key) for key in (secret, first, again)] == [401, 401, 401]
    assert status_of(stored, at_once) == 200


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (["--grace", "24h", "--lost"], "--lost: no earlier secret works"),
        (["--grace", "24h", "--lost", "--deployed"], "--lost and --deployed: give one of them"),
        (["--lost"], "--lost: needs a grace, for it says which secret keeps working"),
        (["--deployed"], "--deployed: needs a grace, for it says which secret keeps working"),
    ],
)
def test_what_cannot_be_said_of_a_secret_changes_nothing(
    options: list[str], said: list[str], sentence: str
) -> None:
    run(*options, "create")
    before = listed(options)
    refused = run(*options, "rotate", before[0]["id"], *said, status=2)
    assert sentence in refused.stderr
    assert refused.stdout == ""
    assert listed(options) == before


def test_an_expired_key_is_not_rotated(kept: list[str]) -> None:
    run(*kept, "create", "--expires", "0s")
    before = listed(kept)
    name = before[0]["id"]
    refused = run(*kept, "rotate", name, "--grace", "24h", status=2)
    assert refused.stdout == ""
    sentence = f"the key {name} has expired: 'intaglio keys change {name} --expires ...' first"
    assert sentence in refused.stderr
    assert listed(kept) == before
    run(*kept, "change", name, "--expires", "1d")
    run(*kept, "rotate", name)


def test_keys_in_redis(redis_server: RedisServer) -> None:
    options = ["keys", "--set", "callers.store=redis", "--set", f"redis.url={redis_server.url}"]
    options += ["--set", "redis.timeout_ms=5000"]
    secret = run(*options, "create", "--json").stdout
    made = json.loads(secret)
    assert [record["id"] for record in listed(options)] == [made["id"]]
    assert made["key"].encode() not in b"".join(redis_server.client().hvals("intaglio:keys"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("create", "--rate", "3", "--burst", "10"), "--burst: must be what the rate allows"),
        (("create", "--per-day", "0"), "--per-day: input should be greater"),
        (("create", "--expires", "soon"), "'soon' is not a span of time"),
        (("create", "--expires", "99999999999w"), "too long"),
        (("create", "--tier", "a/b"), "--tier"),
        (("change", "0123456789ab"), "give at least one option"),
        (("create", "--scope", "root"), "'root' is not one of"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    options: list[str], arguments: tuple[str, ...], sentence: str
) -> None:
    result = run(*options, *arguments, status=2)
    assert sentence in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("grace", ["999999w", "150000000w", "99999999999w"])
def test_a_grace_that_outlasts_all_dates_changes_nothing(options: list[str], grace: str) -> None:
    run(*options, "create")
    before = listed(options)
    result = run(*options, "rotate", before[0]["id"], "--grace", grace, status=2)
    assert "--grace" in result.stderr
    assert "too long" in result.stderr
    assert listed(options) == before


def test_only_a_new_key_has_defaults() -> None:
    def helped(command: str) -> str:
        return " ".join(run("keys", command, "--help").stdout.split())

    assert "[default: infer]" in helped("create")
    assert "[default: no limit]" in helped("create")
    assert "[default: ten seconds' worth]" in helped("create")
    changing = helped("change")
    assert set(re.findall(r"\[default: (.*?)\]", changing)) == {"unchanged"}
    assert changing.count("[default: unchanged]") == 8


def test_a_key_that_is_not_there(options: list[str]) -> None:
    for command in ("revoke", "rotate"):
        assert "there is no key 'nobody'" in run(*options, command, "nobody", status=2).stderr


def test_without_a_store_there_is_nothing_to_keep() -> None:
    result = run("keys", "create", status=2)
    assert "callers.store: open keeps no keys" in result.stderr

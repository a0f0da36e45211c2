"""What the client of Redis cannot use is one sentence, before anything is connected."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pydantic import SecretStr

from intaglio.cli import main
from server.callers.redis_client import redis_client
from server.errors import ConfigurationError
from server.settings import load_settings
from server.settings_callers import RedisSettings


def built(url: str, **given: Any) -> Any:
    settings = load_settings(
        model_dir=Path("unused"), callers={"store": "redis"}, redis={"url": url, **given}
    )
    return redis_client(settings.redis)


def refused(url: str, **given: Any) -> str:
    with pytest.raises(ConfigurationError) as error:
        built(url, **given)
    sentence = str(error.value)
    assert "\n" not in sentence
    # Whoever prints the cause must not show it either.
    assert error.value.__cause__ is None
    return sentence


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:1/0?foo=1",
        "redis://127.0.0.1:1/0?decode_responses=1",
        "redis://127.0.0.1:1/0?encoding=nonsense",
        "redis://127.0.0.1:1/0?retry=1",
        "redis://127.0.0.1:1/0?socket_timeout=9",
        "rediss://127.0.0.1:1/0?ssl_min_version=3",
    ],
)
def test_an_option_that_an_address_cannot_say_is_refused(url: str) -> None:
    assert refused(url).startswith("redis.url: has an option after the ? that is none of client_")


@pytest.mark.parametrize(
    "url",
    [
        "redis://a..b/0",
        f"redis://{64 * 'x'}/0",
        "redis://h%00/0",
        "redis://[::1/0",
        "redis://h\u2100/0",
        "redis://127.0.0.1:99999/0",
        "redis://127.0.0.1:x/0",
        "redis://127.0.0.1/0?db=x",
        "redis://127.0.0.1/abc",
        "redis://127.0.0.1/0/1",
        "rediss://127.0.0.1/-1",
        "redis://127.0.0.1/١",
        "redis://127.0.0.1/0?protocol=7",
        "redis://127.0.0.1/0?ssl_ca_certs=here",
        "rediss://127.0.0.1/0?ssl_cert_reqs=bogus",
        "unix:///tmp/%00",
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    assert refused(url).startswith("redis.url: this is not an address of Redis")


@pytest.mark.parametrize(
    "rest", ["@a..b/0", "@h:x/0", "@h/0?foo=1", "x?y=z@h/0", "@h/hunter2", "@h\u2100/0"]
)
def test_no_sentence_quotes_a_password(rest: str) -> None:
    sentence = refused(f"redis://:hunter2{rest}")
    assert "hunter2" not in sentence
    assert "y=z" not in sentence


@pytest.mark.parametrize(
    "url",
    [
        "redis://u#ser:hunter2@h/0",
        "redis://user:hunter2#3@h/0",
        "redis://user:hunter2@h/0#",
        "unix:///a#hunter2",
    ],
)
def test_an_address_is_not_cut_off_at_a_number_sign(url: str) -> None:
    assert refused(url) == "redis.url: must not hold a #: write # in a password as %23"


def test_a_password_may_have_a_number_sign_as_the_address_says_it() -> None:
    client = redis_client(RedisSettings(url=SecretStr("redis://user:a%23b@h:1/3")))
    options = client.connection_pool.connection_kwargs
    assert (options["password"], options["host"], options["db"]) == ("a#b", "h", 3)


def test_a_file_that_is_not_text_holds_no_password(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_bytes(b"\xff\xfe")
    sentence = refused("redis://h/0", password_file=str(file))
    assert sentence == f"redis.password_file: {file} is not text in UTF-8"
    file.unlink()
    with pytest.raises(ConfigurationError, match=r"redis\.password_file: .*: No such file"):
        built("redis://h/0", password_file=str(file))


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:word@127.0.0.1:1/3?client_name=server&health_check_interval=30",
        "rediss://h/0?ssl_cert_reqs=none&ssl_check_hostname=false&ssl_ca_certs=/not/there",
        "unix:///not/there?db=3",
        "redis://[::1]/0",
        "redis://h/",
        "redis://h/0/",
        "redis://",
    ],
)
def test_nothing_is_connected_and_no_name_looked_up(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    def touched(*_: object, **__: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket, "socket", touched)
    monkeypatch.setattr(socket, "getaddrinfo", touched)
    client = redis_client(RedisSettings(url=SecretStr(url), connections=3))
    assert client.connection_pool.max_connections == 3


def test_a_command_says_the_sentence() -> None:
    options = ["--set", "callers.store=redis", "--set", "redis.url=redis://127.0.0.1:1/0?foo=1"]
    result = CliRunner().invoke(main, ["keys", *options, "list"])
    assert result.exit_code == 2
    assert result.output.startswith("Error: redis.url: has an option")

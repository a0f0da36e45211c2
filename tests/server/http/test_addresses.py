"""What a request is for is said by its path and query, never by what its caller calls us."""

from __future__ import annotations

import asyncio
import json

import pytest
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp

from tests.server.http.asgi import Exchange
from tests.server.http.fakes import DIGITS, EXPLAINED, FakePlane, app_for, encoded, picture

MODEL = "/v1/models/digits"
PNG = encoded(picture(DIGITS))
HOSTS = ("server", "a#", "a?", "[", "a/v1", "\x00")


@pytest.fixture(autouse=True)
def no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some versions of the framework make one of anything: nobody may ask for it."""

    def made(request: HTTPConnection) -> None:
        raise AssertionError(f"an address was made of {request.headers}")

    monkeypatch.setattr(HTTPConnection, "url", property(made))


def asked(
    app: ASGIApp, path: str, *, host: str = "server", query: bytes = b"", once: str | None = None
) -> tuple[int | None, object]:
    """Status and body of what one image is answered."""

    async def scenario() -> tuple[int | None, object]:
        headers = {"content-type": "image/png", "x-api-key": "key", "host": host}
        if once is not None:
            headers["idempotency-key"] = once
        exchange = Exchange(app, path, headers, query=query)
        exchange.body(PNG)
        await asyncio.wait_for(exchange.done, 30)
        return exchange.status, json.loads(exchange.sent[1]["body"])

    return asyncio.run(scenario())


@pytest.mark.parametrize("host", HOSTS)
def test_a_name_is_bound_to_path_and_query_whatever_the_host(host: str) -> None:
    plane = FakePlane(EXPLAINED)
    app = app_for(plane, api_keys=("key",))
    assert asked(app, f"{MODEL}/predict", host=host, once="a")[0] == 200
    assert asked(app, f"{MODEL}/predict", host="elsewhere", once="a")[0] == 200
    assert len(plane.asked) == 1
    for path, query in (
        (f"{MODEL}/explain", b""),
        (f"{MODEL}/predict", b"top_k=2"),
        (f"{MODEL}/predict", b"x=\xff"),
    ):
        assert asked(app, path, host=host, query=query, once="a")[0] == 409


def test_a_query_that_is_no_text_is_known_again() -> None:
    plane = FakePlane()
    app = app_for(plane, api_keys=("key",))
    for name, query in (("a", b"x=\xff"), ("a", b"x=\xff"), ("b", b"x=\xfe")):
        assert asked(app, f"{MODEL}/predict", query=query, once=name)[0] == 200
    assert len(plane.asked) == 2


@pytest.mark.parametrize("host", HOSTS)
def test_what_is_not_there_is_named_whatever_the_host(host: str) -> None:
    app = app_for(FakePlane())
    for path, query, status, sentence in (
        ("/nothing", b"x=\xff", 404, "there is nothing at /nothing"),
        (
            "/two\nlines \N{GREEK SMALL LETTER PI}",
            b"",
            404,
            "there is nothing at /two%0Alines%20%CF%80",
        ),
        (MODEL, b"", 405, f"POST is not allowed at {MODEL}"),
    ):
        assert asked(app, path, host=host, query=query) == (status, {"error": sentence})

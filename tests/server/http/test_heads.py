"""Heads that never end, come too slowly, or are no heads: over real sockets."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
import uvicorn

from server.http_head import HEAD_BYTES, BoundedHeadProtocol
from tests.server.http.fakes import FakePlane, app_for


class Impatient(BoundedHeadProtocol):
    head_s = 0.5


@contextlib.contextmanager
def serving(protocol: type[BoundedHeadProtocol] = BoundedHeadProtocol) -> Iterator[tuple[str, int]]:
    config = uvicorn.Config(app_for(FakePlane()), log_level="error", lifespan="off", http=protocol)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            server.should_exit = True
            thread.join(10)
            assert not thread.is_alive()


def exchange(place: tuple[str, int], *pieces: bytes, patience_s: float = 20.0) -> bytes:
    """What the server says to ``pieces`` until it hangs up."""
    with socket.create_connection(place, timeout=patience_s) as connection:
        for piece in pieces:
            try:
                connection.sendall(piece)
            except ConnectionError:
                break
        said = b""
        with contextlib.suppress(ConnectionError):
            while more := connection.recv(65_536):
                said += more
        return said


def error_of(said: bytes, status: int) -> str:
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), said
    assert b"connection: close" in head
    error = json.loads(body)["error"]
    assert isinstance(error, str)
    return error


LINE = b"GET /v2 HTTP/1.1\r\nhost: x\r\n"


@pytest.mark.parametrize(
    "pieces",
    [
        (LINE, *[b"x: " + b"y" * 32_768] * 64),
        (LINE, *[b"x: y\r\n" * 4096] * 64),
        (b"GET /", *[b"y" * 32_768] * 64),
        (LINE + b"x: " + b"y" * HEAD_BYTES + b"\r\n\r\n",),
    ],
    ids=["one header", "many headers", "a path", "complete"],
)
def test_a_head_that_is_too_long_is_refused(pieces: tuple[bytes, ...]) -> None:
    with serving() as place:
        assert str(HEAD_BYTES) in error_of(exchange(place, *pieces), 431)
        assert httpx.get(f"http://{place[0]}:{place[1]}/v2/health/live").status_code == 200


def test_a_long_body_is_no_head() -> None:
    with serving() as place:
        url = f"http://{place[0]}:{place[1]}/v2/models/digits/infer"
        with httpx.Client() as client:
            for _ in range(3):
                assert client.post(url, content=b"x" * (4 * HEAD_BYTES)).status_code == 413
            headers = {"x": "y" * (HEAD_BYTES - 1000)}
            assert client.get(f"http://{place[0]}:{place[1]}/v2", headers=headers).is_success


def test_a_head_that_comes_too_slowly_is_given_up() -> None:
    with serving(Impatient) as place:
        started = time.monotonic()
        assert "0.5 s" in error_of(exchange(place, LINE + b"x: "), 408)
        assert time.monotonic() - started < 10
        # Nothing at all is no request, and is not answered.
        assert exchange(place) == b""


def test_a_second_head_is_waited_for_like_the_first() -> None:
    with serving(Impatient) as place:
        said = exchange(place, LINE + b"\r\n", b"GET /v2 HT")
        assert said.startswith(b"HTTP/1.1 200")
        assert b"HTTP/1.1 408" in said


def test_a_slow_body_is_not_the_heads_fault() -> None:
    with serving(Impatient) as place, socket.create_connection(place, timeout=20) as connection:
        connection.sendall(
            b"POST /v2/models/digits/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{"
        )
        time.sleep(1.0)
        connection.sendall(b"}")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize(
    "sent",
    [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"HELLO\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"],
    ids=["tls", "words", "version"],
)
def test_what_is_no_http_is_refused_in_our_form(sent: bytes) -> None:
    with serving() as place:
        assert error_of(exchange(place, sent), 400)

"""What only a real connection shows: callers who leave, send half, send garbage, or too much."""

from __future__ import annotations

import asyncio
import http.client
import socket
import time
from collections.abc import Callable

import pytest

from tests.server.http.fakes import DIGITS, FakePlane, encoded, picture
from tests.server.http.sockets import serving

PATH = "/v1/models/digits/predict"


def connect(address: str) -> socket.socket:
    host, _, port = address.partition(":")
    return socket.create_connection((host, int(port)), timeout=10)


def head(length: int, *more: str) -> bytes:
    lines = [
        f"POST {PATH} HTTP/1.1",
        "host: server",
        "content-type: image/png",
        f"content-length: {length}",
        *more,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def answers(address: str) -> bool:
    """Whether an honest caller is served."""
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request("POST", PATH, encoded(picture(DIGITS)), {"content-type": "image/png"})
        return connection.getresponse().status == 200
    finally:
        connection.close()


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def read_all(connection: socket.socket) -> bytes:
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
    return received


def test_a_caller_who_hangs_up_withdraws_its_work() -> None:
    plane = FakePlane()
    plane.gate = asyncio.Event()
    file = encoded(picture(DIGITS))
    with serving(plane) as address:
        with connect(address) as connection:
            connection.sendall(head(len(file)) + file)
            assert eventually(lambda: len(plane.asked) == 1)
        assert eventually(lambda: plane.cancelled == 1)
        plane.gate = None
        assert answers(address)


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(head(1000)[:30], id="half-a-head"),
        pytest.param(head(1000), id="no-body"),
        pytest.param(head(1000) + bytes(500), id="half-a-body"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="tls"),
        pytest.param(b"GARBAGE\r\n\r\n\r\n", id="garbage"),
        pytest.param(head(-5), id="negative-length"),
    ],
)
def test_a_caller_who_sends_half_or_garbage_harms_nobody(sent: bytes) -> None:
    plane = FakePlane()
    with serving(plane) as address:
        for _ in range(5):
            with connect(address) as connection:
                connection.sendall(sent)
        assert answers(address)
        assert len(plane.asked) == 1


def test_a_body_too_large_is_answered_and_not_cut_off() -> None:
    with serving(FakePlane(), limits={"max_body_bytes": 100_000}) as address:
        connection = http.client.HTTPConnection(address, timeout=10)
        connection.request("POST", PATH, bytes(3_000_000), {"content-type": "image/png"})
        response = connection.getresponse()
        assert response.status == 413
        assert b"limits.max_body_bytes" in response.read()
        connection.close()
        assert answers(address)


def test_a_caller_who_asks_first_need_not_send_a_body_too_large() -> None:
    with (
        serving(FakePlane(), limits={"max_body_bytes": 100_000}) as address,
        connect(address) as connection,
    ):
        connection.sendall(head(3_000_000, "expect: 100-continue", "connection: close"))
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_a_body_that_does_not_come_ends_the_connection() -> None:
    with (
        serving(FakePlane(), limits={"body_timeout_s": 0.2}) as address,
        connect(address) as connection,
    ):
        connection.sendall(head(1000) + bytes(10))
        started = time.monotonic()
        assert read_all(connection).startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - started < 3


def test_one_connection_serves_many_requests_whatever_their_fate() -> None:
    with serving(FakePlane()) as address:
        connection = http.client.HTTPConnection(address, timeout=10)
        for _ in range(3):
            for body, status in ((encoded(picture(DIGITS)), 200), (b"no image", 400)):
                connection.request("POST", PATH, body, {"content-type": "image/png"})
                response = connection.getresponse()
                response.read()
                assert response.status == status
        connection.close()

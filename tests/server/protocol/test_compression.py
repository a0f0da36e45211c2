"""Response compression: what a caller may ask for, and what it gets."""

from __future__ import annotations

import gzip
import zlib

import pytest

from server.protocol.compression import compress, negotiate


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        (None, None),
        ("", None),
        ("identity", None),
        ("gzip", "gzip"),
        ("GZIP", "gzip"),
        ("x-gzip", "gzip"),
        ("deflate", "deflate"),
        ("gzip, deflate, br", "gzip"),
        ("deflate, gzip;q=0.5", "deflate"),
        ("gzip;q=0", None),
        ("*", "gzip"),
        ("*;q=0.5, gzip;q=0", "deflate"),
        ("br", None),
        ("gzip;q=x", None),
        ("gzip;q=7", None),
        (";;;,,,=", None),
    ],
)
def test_the_coding_is_what_the_caller_prefers(accept: str | None, coding: str | None) -> None:
    assert negotiate(accept) == coding


def test_a_compressed_body_reads_back_and_is_always_the_same() -> None:
    body = b'{"data":[0.1,0.1]}' * 100
    packed, headers = compress(body, "gzip")
    assert gzip.decompress(packed) == body
    assert headers == {"vary": "accept-encoding", "content-encoding": "gzip"}
    assert compress(body, "gzip")[0] == packed
    packed, headers = compress(body, "deflate")
    assert zlib.decompress(packed) == body
    assert headers["content-encoding"] == "deflate"


def test_a_small_body_is_left_alone() -> None:
    assert compress(b"{}", "gzip") == (b"{}", {"vary": "accept-encoding"})

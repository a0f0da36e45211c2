"""Bodies: what was compressed reads back, and no more than the limit is ever produced."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import BadRequest, TooLarge
from server.protocol.body import inflate

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
}
codings = pytest.mark.parametrize("coding", list(COMPRESS))


@given(st.binary(max_size=2000), st.sampled_from(list(COMPRESS)))
def test_a_compressed_body_reads_back(body: bytes, coding: str) -> None:
    assert inflate(COMPRESS[coding](body), coding, limit=2000) == body


@codings
def test_the_limit_itself_is_allowed_and_one_more_is_not(coding: str) -> None:
    assert len(inflate(COMPRESS[coding](bytes(100)), coding, limit=100)) == 100
    with pytest.raises(TooLarge, match=r"100 bytes once decompressed \(limits.max_body_bytes\)"):
        inflate(COMPRESS[coding](bytes(101)), coding, limit=100)


@codings
def test_the_limit_of_json_is_named(coding: str) -> None:
    with pytest.raises(
        TooLarge,
        match=r"100 bytes once decompressed \(limits\.max_json_bytes\); binary tensors take less",
    ):
        inflate(COMPRESS[coding](bytes(101)), coding, limit=100, tensors=True)


@codings
def test_a_bomb_is_not_unpacked(coding: str) -> None:
    bomb = COMPRESS[coding](bytes(50 * 2**20))
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            inflate(bomb, coding, limit=2**20)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * 2**20


@codings
def test_a_body_cut_short_is_refused(coding: str) -> None:
    whole = COMPRESS[coding](b"some body")
    for end in range(len(whole)):
        with pytest.raises(BadRequest):
            inflate(whole[:end], coding, limit=100)


@codings
def test_bytes_after_the_body_are_refused(coding: str) -> None:
    with pytest.raises(BadRequest, match="3 bytes follow"):
        inflate(COMPRESS[coding](b"some body") + b"abc", coding, limit=100)


@codings
def test_another_coding_is_refused(coding: str) -> None:
    with pytest.raises(BadRequest, match=f"not valid {coding}"):
        inflate(b"some body that is not compressed", coding, limit=100)


def test_deflate_means_the_zlib_format() -> None:
    raw = zlib.compressobj(wbits=-15)
    with pytest.raises(BadRequest):
        inflate(raw.compress(b"some body") + raw.flush(), "deflate", limit=100)

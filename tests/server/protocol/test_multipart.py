"""Forms: what a client library writes is read, and what is malformed is refused."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import BadRequest, ServiceError, TooLarge
from server.protocol.multipart import Part, parse_multipart

TYPE = "multipart/form-data; boundary=b"


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=5))
def test_what_httpx_writes_is_read(contents: list[bytes]) -> None:
    request = httpx.Request(
        "POST",
        "http://server",
        files=[("images", (f"ü{index}.png", content)) for index, content in enumerate(contents)],
        data={"top_k": "3"},
    )
    parts = parse_multipart(request.read(), request.headers["content-type"], max_parts=6)
    files = [part for part in parts if part.filename is not None]
    assert [part.content for part in files] == contents
    assert [part for part in parts if part.filename is None] == [Part("top_k", None, b"3")]


def test_a_part_too_many_is_refused() -> None:
    body = b'--b\r\ncontent-disposition: form-data; name="a"\r\n\r\n1\r\n' * 3 + b"--b--\r\n"
    assert len(parse_multipart(body, TYPE, max_parts=3)) == 3
    with pytest.raises(TooLarge, match=r"more than 2 parts \(limits.max_request_samples\)"):
        parse_multipart(body, TYPE, max_parts=2)


@pytest.mark.parametrize(
    ("body", "content_type", "sentence"),
    [
        (b"", "multipart/form-data", "needs a boundary"),
        (b"", TYPE, "cut short"),
        (b"garbage", TYPE, "not a valid"),
        (b'--b\r\ncontent-disposition: form-data; name="a"\r\n\r\nhalf', TYPE, "cut short"),
        (b"--b\r\n\r\n1\r\n--b--\r\n", TYPE, "part 0 of the form has no name"),
        (
            b"--b\r\n\r\n1\r\n--b--\r\n",
            "multipart/form-data; boundary=" + "b" * 5000,
            "not a valid",
        ),
    ],
)
def test_a_malformed_form_is_refused(body: bytes, content_type: str, sentence: str) -> None:
    with pytest.raises(BadRequest, match=sentence):
        parse_multipart(body, content_type, max_parts=3)


@given(st.binary(max_size=300))
def test_garbage_is_refused_but_never_fails(body: bytes) -> None:
    with pytest.raises(ServiceError):
        parse_multipart(b"--b\r\n" + body, TYPE, max_parts=3)

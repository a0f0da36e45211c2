"""``multipart/form-data`` bodies, parsed in memory: the body is already within its limit."""

from __future__ import annotations

from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from server.errors import BadRequest, TooLarge

__all__ = ["Part", "parse_multipart"]


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a form.

    Attributes:
        name: of the form field.
        filename: None where the part is a plain value and not a file.
        content: its bytes.
    """

    name: str
    filename: str | None
    content: bytes


def parse_multipart(body: bytes, content_type: str, *, max_parts: int) -> list[Part]:
    """Split ``body`` into its parts.

    Args:
        body: the whole form.
        content_type: the header, which states the boundary.
        max_parts: how many parts there may be.

    Raises:
        BadRequest: not a multipart form, or cut short.
        TooLarge: more than ``max_parts`` parts.
    """
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if not boundary:
        raise BadRequest("content-type: multipart/form-data needs a boundary")
    collector = _Collector(max_parts)
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": collector.part_begin,
                "on_header_field": collector.header_field,
                "on_header_value": collector.header_value,
                "on_header_end": collector.header_end,
                "on_part_data": collector.part_data,
                "on_part_end": collector.part_end,
                "on_end": collector.end,
            },
        )
        parser.write(body)
        parser.finalize()
    except FormParserError:
        raise BadRequest("the body is not a valid multipart/form-data form") from None
    if not collector.complete:
        raise BadRequest("the multipart/form-data form is cut short")
    return collector.parts


@dataclass(slots=True)
class _Collector:
    """What the parser's callbacks fill."""

    max_parts: int
    parts: list[Part] = field(default_factory=list)
    complete: bool = False
    _header: tuple[bytearray, bytearray] = field(default_factory=lambda: (bytearray(), bytearray()))
    _headers: dict[bytes, bytes] = field(default_factory=dict)
    _content: bytearray = field(default_factory=bytearray)

    def part_begin(self) -> None:
        if len(self.parts) >= self.max_parts:
            raise TooLarge(
                f"the form has more than {self.max_parts} parts (limits.max_request_samples)"
            )
        self._headers = {}
        self._content = bytearray()

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self._header[0].extend(data[start:end])

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1].extend(data[start:end])

    def header_end(self) -> None:
        name, value = self._header
        self._headers[bytes(name).lower()] = bytes(value)
        self._header = (bytearray(), bytearray())

    def part_data(self, data: bytes, start: int, end: int) -> None:
        self._content.extend(memoryview(data)[start:end])

    def part_end(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if b"name" not in options:
            raise BadRequest(f"part {len(self.parts)} of the form has no name")
        filename = options.get(b"filename")
        self.parts.append(
            Part(
                name=options[b"name"].decode("utf-8", "replace"),
                filename=None if filename is None else filename.decode("utf-8", "replace"),
                content=bytes(self._content),
            )
        )

    def end(self) -> None:
        self.complete = True

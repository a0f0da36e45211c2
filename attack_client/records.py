"""Framed records: how answers lie in ``records.bin``.

    offset  bytes   little-endian
    0       4       magic ``ITR1``; ``ITM1`` where maps are kept
    4       8       position of the first image
    12      4       number of images n
    16      4       crc32 of the 16 bytes above
    20      n*CHW   images, uint8
    ...     n*4K    probabilities, float32
    ...     n*4hw   attribution maps, float32; where they are kept
    ...     4       crc32 of all of that

The header has a checksum of its own, so that a damaged count is never believed. Only the end of
the file can be torn by a kill; damage with a sound record behind it is never cut off silently.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attack_client.errors import CorruptRecord, TransferSetError

__all__ = ["Entry", "Layout", "encode", "read", "scan"]

HEADER = struct.Struct("<4sQI")
CHECKSUM = struct.Struct("<I")
LEAD = HEADER.size + CHECKSUM.size


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a record lies: its first position, its images, its byte offset."""

    start: int
    count: int
    offset: int


@dataclass(frozen=True, slots=True)
class Layout:
    """What every record of one file holds: images ``(C, H, W)`` and K probabilities each.

    Where ``maps`` is given, an attribution map ``(h, w)`` each as well.
    """

    shape: tuple[int, int, int]
    classes: int
    maps: tuple[int, int] | None = None

    @property
    def magic(self) -> bytes:
        """How a record begins; a reader that knows no maps finds no record of them."""
        return b"ITR1" if self.maps is None else b"ITM1"

    @property
    def image_bytes(self) -> int:
        """Bytes of one image."""
        return prod(self.shape)

    @property
    def sample_bytes(self) -> int:
        """Bytes of one image and what was answered about it."""
        return self.image_bytes + 4 * self.classes + 4 * prod(self.maps or (0,))

    def record_bytes(self, count: int) -> int:
        """Bytes of a record of ``count`` images, header and checksums included."""
        return LEAD + count * self.sample_bytes + CHECKSUM.size


def encode(
    layout: Layout,
    start: int,
    images: NDArray[np.uint8],
    probabilities: NDArray[np.float32],
    maps: NDArray[np.float32] | None = None,
) -> bytes:
    """One record of images ``(n, C, H, W)``, probabilities ``(n, K)`` and maps ``(n, h, w)``.

    Raises:
        TransferSetError: the arrays are not of the layout's shape, or maps are missing or too much.
    """
    count = len(images)
    if images.shape[1:] != layout.shape or probabilities.shape != (count, layout.classes):
        raise TransferSetError(
            f"answers of shape {probabilities.shape} to images of shape {images.shape} do not "
            f"fit a transfer set of images {layout.shape} and {layout.classes} classes"
        )
    if (None if maps is None else maps.shape) != (layout.maps and (count, *layout.maps)):
        raise TransferSetError(
            f"maps of shape {None if maps is None else maps.shape} to {count} images do not fit a "
            f"transfer set of maps {layout.maps}"
        )
    header = HEADER.pack(layout.magic, start, count)
    payload = (
        np.ascontiguousarray(images, dtype=np.uint8).tobytes()
        + np.ascontiguousarray(probabilities, dtype="<f4").tobytes()
        + (b"" if maps is None else np.ascontiguousarray(maps, dtype="<f4").tobytes())
    )
    return b"".join(
        [header, CHECKSUM.pack(zlib.crc32(header)), payload, CHECKSUM.pack(zlib.crc32(payload))]
    )


def read(
    layout: Layout, descriptor: int, entry: Entry
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32] | None]:
    """Images, probabilities and maps of one record of n samples that ``scan`` found.

    Returns:
        ``(n, C, H, W)`` uint8, ``(n, K)`` float32, and ``(n, h, w)`` float32 or, where the layout
        has no maps, None.

    Raises:
        CorruptRecord: the file became shorter than it was.
    """
    size = entry.count * layout.sample_bytes
    payload = os.pread(descriptor, size, entry.offset + LEAD)
    if len(payload) != size:
        raise CorruptRecord(
            f"the record at offset {entry.offset} became shorter while it was in use",
            offset=entry.offset,
        )
    split = entry.count * layout.image_bytes
    images = np.frombuffer(payload, dtype=np.uint8, count=split)
    floats = np.frombuffer(payload, dtype="<f4", offset=split).astype(np.float32)
    probabilities, maps = np.split(floats, [entry.count * layout.classes])
    return (
        images.reshape(entry.count, *layout.shape),
        probabilities.reshape(entry.count, layout.classes),
        None if layout.maps is None else maps.reshape(entry.count, *layout.maps),
    )


def scan(layout: Layout, path: Path) -> tuple[list[Entry], int]:
    """Every sound record of a file, and the offset at which a torn end begins.

    The offset is the size of the file where nothing is torn.

    Raises:
        CorruptRecord: there is damage, and a sound record behind it.
    """
    size = path.stat().st_size
    if size == 0:
        return [], 0
    entries: list[Entry] = []
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        offset = 0
        while offset < size:
            entry = _record_at(layout, data, offset)
            if entry is None:
                later = _magics(layout.magic, data, offset + 1)
                if any(_record_at(layout, data, place) for place in later):
                    raise CorruptRecord(
                        f"{path} is damaged at offset {offset} and has sound records behind it: "
                        "restore the file, or start again with another --out",
                        offset=offset,
                    )
                break
            entries.append(entry)
            offset += layout.record_bytes(entry.count)
    return entries, offset


def _magics(magic: bytes, data: mmap.mmap, start: int) -> Iterator[int]:
    found = data.find(magic, start)
    while found >= 0:
        yield found
        found = data.find(magic, found + 1)


def _record_at(layout: Layout, data: mmap.mmap, offset: int) -> Entry | None:
    """The sound record that begins at ``offset``, or None."""
    header = data[offset : offset + HEADER.size]
    checksum = data[offset + HEADER.size : offset + LEAD]
    if len(checksum) < CHECKSUM.size or CHECKSUM.unpack(checksum)[0] != zlib.crc32(header):
        return None
    magic, start, count = HEADER.unpack(header)
    end = offset + layout.record_bytes(count)
    if magic != layout.magic or count == 0 or end > len(data):
        return None
    payload = data[offset + LEAD : end - CHECKSUM.size]
    if CHECKSUM.unpack(data[end - CHECKSUM.size : end])[0] != zlib.crc32(payload):
        return None
    return Entry(start=start, count=count, offset=offset)

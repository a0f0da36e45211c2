"""Images: limits before decoding, damaged files, a bounded queue."""

from __future__ import annotations

import asyncio
import gzip
import io
import random
import struct
import threading
import time
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from models.card import InputSpec
from models.preprocessing import fit_image
from server.decoder import ImageDecoder
from server.errors import BadRequest, QueueFull, TooLarge
from server.images import MAX_SCANS, EncodedImage, decode_image
from tests.server.http.fakes import (
    DIGITS,
    CountingMetrics,
    FakePlane,
    app_for,
    call,
    encoded,
    error_of,
    picture,
)

SPEC = DIGITS.input
RGB = InputSpec(channels=3, height=8, width=8)


def chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def declared_png(width: int, height: int) -> bytes:
    """A PNG that promises ``width`` by ``height`` grey pixels and holds none."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def decode(content: bytes, spec: InputSpec = SPEC, max_pixels: int = 10_000) -> Any:
    return decode_image(EncodedImage("it", content), spec, max_pixels=max_pixels)


@pytest.mark.parametrize("spec", [SPEC, RGB], ids=["grey", "rgb"])
def test_a_png_of_the_right_size_passes_bit_for_bit(spec: InputSpec) -> None:
    image = np.random.default_rng(1).integers(0, 256, spec.shape, dtype=np.uint8)
    np.testing.assert_array_equal(decode(encoded(image), spec), image)


@pytest.mark.parametrize(
    "size", [(101, 100), (1, 10_001), (60_000, 60_000), (2**31 - 1, 2**31 - 1)]
)
def test_a_declared_size_over_the_limit_is_never_decoded(size: tuple[int, int]) -> None:
    started = time.perf_counter()
    with pytest.raises(
        TooLarge, match=r"it has more than 10000 pixels \(limits.max_image_pixels\)"
    ):
        decode(declared_png(*size))
    assert time.perf_counter() - started < 1


def test_the_limit_itself_is_allowed() -> None:
    image = np.zeros((1, 100, 100), np.uint8)
    assert decode(encoded(image)).shape == SPEC.shape


def test_a_bomb_is_refused_over_http_at_once() -> None:
    app = app_for(FakePlane())
    # 25 million black pixels in a few hundred bytes, every one of them really there.
    webp = io.BytesIO()
    Image.new("RGB", (5000, 5000)).save(webp, "WEBP", lossless=True, quality=0, method=0)
    for content in (declared_png(60_000, 60_000), webp.getvalue()):
        assert len(content) < 1000
        started = time.perf_counter()
        response = call(
            app,
            "POST",
            "/v1/models/digits/predict",
            content=content,
            headers={"content-type": "image/png"},
        )
        sentence = error_of(response, 413)
        assert sentence == "the body has more than 16000000 pixels (limits.max_image_pixels)"
        assert time.perf_counter() - started < 1


def test_a_jpeg_of_very_many_scans_is_never_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    few = encoded(np.full((3, 64, 64), 7, np.uint8), "JPEG", progressive=True)
    end = few.rindex(b"\xff\xd9")
    scan = few[few.rindex(b"\xff\xda") : end]
    room = MAX_SCANS - few.count(b"\xff\xda")
    assert room > 80, "what encoders write is far below the limit"
    assert decode(few[:end] + scan * room + few[end:]).shape == SPEC.shape
    loaded: list[str] = []
    monkeypatch.setattr(JpegImageFile, "load", lambda image: loaded.append(image.format))
    for many in (room + 1, 100_000):
        with pytest.raises(BadRequest, match="it has more than 100 scans"):
            decode(few[:end] + scan * many + few[end:])
    assert not loaded


PNG_FILE = encoded(np.full((1, 8, 8), 7, np.uint8))
JPEG_FILE = encoded(np.full((1, 8, 8), 7, np.uint8), "JPEG")
AT = PNG_FILE.index(b"IDAT") - 4
PROFILE = chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(1000)))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (PNG_FILE[:AT] + chunk(b"tIME", b"") * 60_000 + PNG_FILE[AT:], "100000 pieces"),
        (PNG_FILE[:-12] + chunk(b"tIME", b"") * 60_000 + PNG_FILE[-12:], "100000 pieces"),
        (PNG_FILE[:AT] + chunk(b"IDAT", b"") * 120_000 + PNG_FILE[AT:], "100000 pieces"),
        (PNG_FILE[:AT] + PROFILE * 9 + PNG_FILE[AT:], "8 colour profiles"),
        (JPEG_FILE[:2] + b"\xff" * 200_000 + JPEG_FILE[2:], "100000 pieces"),
        (JPEG_FILE[:2] + b"\xff\xe0\x00\x02" * 60_000 + JPEG_FILE[2:], "100000 pieces"),
    ],
    ids=["chunks", "chunks-after", "empty-data", "profiles", "fill", "segments"],
)
def test_a_file_that_is_laborious_for_its_size_is_refused(content: bytes, sentence: str) -> None:
    with pytest.raises(BadRequest, match=f"it .* more than {sentence}"):
        decode(content)


def test_a_file_in_thousands_of_pieces_is_read() -> None:
    image = np.random.default_rng(2).integers(0, 256, (1, 90, 90), dtype=np.uint8)
    whole = encoded(image)
    start = whole.index(b"IDAT") - 4
    (size,) = struct.unpack(">I", whole[start : start + 4])
    data = whole[start + 8 : start + 8 + size]
    pieces = b"".join(chunk(b"IDAT", data[at : at + 1]) for at in range(size))
    assert size > 5000
    whole = whole[:start] + PROFILE + pieces + whole[start + 12 + size :]
    spec = InputSpec(channels=1, height=90, width=90)
    np.testing.assert_array_equal(decode(whole, spec), image)


def test_a_jpeg_bomb_is_refused_over_http() -> None:
    into = io.BytesIO()
    Image.new("L", (4000, 4000), 7).save(into, "JPEG", progressive=True)
    whole = into.getvalue()
    end = whole.rindex(b"\xff\xd9")
    # Hours of work for one thread, and 16 kB once compressed.
    bomb = whole[:end] + whole[whole.rindex(b"\xff\xda") : end] * 500_000 + whole[end:]
    response = call(
        app_for(FakePlane()),
        "POST",
        "/v1/models/digits/predict",
        content=gzip.compress(bomb, 1),
        headers={"content-type": "image/jpeg", "content-encoding": "gzip"},
    )
    assert error_of(response, 400) == "the body has more than 100 scans"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_file_cut_short_is_refused(kind: str) -> None:
    whole = encoded(np.random.default_rng(0).integers(0, 256, (3, 32, 32), dtype=np.uint8), kind)
    for end in range(0, len(whole) - 20, max(1, len(whole) // 40)):
        with pytest.raises(BadRequest, match=r"^it "):
            decode(whole[:end])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_damaged_file_is_read_or_refused_but_never_fails(kind: str) -> None:
    whole = encoded(np.random.default_rng(0).integers(0, 256, (3, 16, 16), dtype=np.uint8), kind)
    luck = random.Random(0)
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(luck.randint(1, 5)):
            damaged[luck.randrange(len(damaged))] = luck.randrange(256)
        try:
            assert decode(bytes(damaged), max_pixels=100_000).shape == SPEC.shape
        except (BadRequest, TooLarge):
            continue


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "PPM", "ICO"])
def test_other_formats_do_not_reach_their_decoders(kind: str) -> None:
    with pytest.raises(BadRequest, match="it is not a PNG, JPEG or WebP image"):
        decode(encoded(np.zeros((3, 16, 16), np.uint8), kind))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_of_an_animation_the_first_frame_counts(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    into = io.BytesIO()
    frames[0].save(into, kind, save_all=True, append_images=frames[1:], lossless=True)
    pixels = decode(into.getvalue(), RGB)
    assert pixels[0].min() == 255
    assert pixels[2].max() == 0


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_any_usual_mode_becomes_what_the_model_is_shown(mode: str) -> None:
    into = io.BytesIO()
    Image.new(mode, (20, 10)).save(into, "JPEG" if mode == "CMYK" else "PNG")
    for spec in (SPEC, RGB):
        decoded = decode(into.getvalue(), spec)
        assert decoded.shape == spec.shape
        assert decoded.dtype == np.uint8


def test_images_are_decoded_in_order_and_off_the_event_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: set[threading.Thread] = set()

    def watched(image: Image.Image, spec: InputSpec) -> Any:
        threads.add(threading.current_thread())
        return fit_image(image, spec)

    monkeypatch.setattr("server.images.fit_image", watched)
    images = np.stack([picture(DIGITS, seed) for seed in range(9)])
    decoder = ImageDecoder(max_pixels=1000, max_request_pixels=4000, queue_samples=10, threads=2)
    files = [EncodedImage(f"images[{i}]", encoded(image)) for i, image in enumerate(images)]
    np.testing.assert_array_equal(asyncio.run(decoder.decode(files, SPEC)), images)
    assert threads
    assert threading.main_thread() not in threads


def test_the_queue_of_the_decoder_is_bounded_and_recovers() -> None:
    async def scenario() -> None:
        decoder = ImageDecoder(
            max_pixels=1000, max_request_pixels=4000, queue_samples=10, threads=1
        )
        files = [EncodedImage("it", encoded(picture(DIGITS)))] * 6
        first = asyncio.ensure_future(decoder.decode(files, SPEC))
        await asyncio.sleep(0)
        with pytest.raises(QueueFull) as refused:
            await decoder.decode(files, SPEC)
        assert refused.value.retry_after is not None
        await first
        # An error and a cancellation give their places back as well.
        with pytest.raises(BadRequest):
            await decoder.decode([EncodedImage("it", b"?")] * 9, SPEC)
        cancelled = asyncio.ensure_future(decoder.decode(files, SPEC))
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert (await decoder.decode(files + files[:4], SPEC)).shape == (10, 1, 8, 8)
        assert not decoder.busy

    asyncio.run(scenario())


def test_decoding_counts_against_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(image: Image.Image, spec: InputSpec) -> Any:
        time.sleep(0.05)
        return np.zeros(spec.shape, np.uint8)

    monkeypatch.setattr("server.images.fit_image", slow)
    plane, metrics = FakePlane(), CountingMetrics()
    app = app_for(plane, metrics=metrics, batching={"deadline_s": 0.2})
    files = [("images", (f"{index}", encoded(picture(DIGITS)))) for index in range(50)]
    started = time.perf_counter()
    error_of(call(app, "POST", "/v1/models/digits/predict", files=files), 504)
    assert time.perf_counter() - started < 1.5
    assert not plane.asked
    assert metrics.refusals == [("deadline", 50)]

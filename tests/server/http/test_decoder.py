"""The decoder of all requests: bounds on what one may ask for, and turns between callers."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np
import pytest

from models.card import InputSpec
from server.decoder import ImageDecoder, build_decoder
from server.errors import QueueFull
from server.images import EncodedImage
from tests.server.http.fakes import (
    DIGITS,
    CountingMetrics,
    FakePlane,
    app_for,
    call,
    encoded,
    error_of,
    picture,
    settings,
)
from tests.server.http.test_images import declared_png

SPEC = DIGITS.input
PATH = "/v1/models/digits/predict"


def decoder(**given: Any) -> ImageDecoder:
    return ImageDecoder(
        **{"max_pixels": 1000, "max_request_pixels": 4000, "queue_samples": 100, "threads": 1}
        | given
    )


def named(name: str, count: int = 1) -> list[EncodedImage]:
    return [EncodedImage(name, encoded(picture(DIGITS)))] * count


def form(*files: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [("images", (f"{index}", content)) for index, content in enumerate(files)]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Takes the place of decoding: what was to be decoded, in order."""
    names: list[str] = []

    def note(image: EncodedImage, spec: InputSpec, **_: Any) -> Any:
        names.append(image.where)
        return np.zeros(spec.shape, np.uint8)

    monkeypatch.setattr("server.decoder.decode_image", note)
    return names


def test_the_pixels_of_a_request_are_added_up_before_any_is_decoded(decoded: list[str]) -> None:
    metrics = CountingMetrics()
    app = app_for(FakePlane(), metrics=metrics)
    largest = declared_png(4000, 4000)
    refused = call(app, "POST", PATH, files=form(*[largest] * 4, declared_png(1, 1)))
    assert error_of(refused, 413) == (
        "the images of the request have more than 64000000 pixels together "
        "(limits.max_request_pixels)"
    )
    assert metrics.refusals == [("too-large", 5)]
    assert not decoded
    assert call(app, "POST", PATH, files=form(*[largest] * 4)).status_code == 200
    assert len(decoded) == 4


def test_one_of_many_that_is_too_large_or_no_image_is_named(decoded: list[str]) -> None:
    app = app_for(FakePlane(), limits={"max_image_pixels": 100, "max_request_pixels": 300})
    fine = [encoded(picture(DIGITS))] * 3
    large = call(app, "POST", PATH, files=form(*fine, declared_png(11, 11)))
    assert "file 3 of the form has more than 100 pixels" in error_of(large, 413)
    none = call(app, "POST", PATH, files=form(*fine, b"?"))
    assert "file 3 of the form is not a PNG, JPEG or WebP image" in error_of(none, 400)
    assert not decoded


def test_a_caller_has_a_share_of_what_waits() -> None:
    async def scenario() -> None:
        shared = decoder(queue_samples=10, caller_samples=6)
        first = asyncio.ensure_future(shared.decode(named("a", 4), SPEC, caller="a"))
        await asyncio.sleep(0)
        with pytest.raises(QueueFull, match="4 images waiting") as refused:
            await shared.decode(named("a", 3), SPEC, caller="a")
        assert refused.value.retry_after is not None
        second = asyncio.ensure_future(shared.decode(named("b", 6), SPEC, caller="b"))
        await asyncio.gather(first, second)
        # Where callers are not told apart, nobody has a share.
        assert len(await shared.decode(named("-", 10), SPEC)) == 10
        assert not shared._shares

    asyncio.run(scenario())


def test_the_share_holds_the_largest_request() -> None:
    made = build_decoder(settings(batching={"queue_samples": 256}))
    assert made._caller_samples == 256
    assert build_decoder(settings())._caller_samples == 512


def test_whoever_sends_much_waits_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    begun, go_on = threading.Event(), threading.Event()

    def slow(image: EncodedImage, spec: InputSpec, **_: Any) -> Any:
        order.append(image.where)
        begun.set()
        assert go_on.wait(30)
        return np.zeros(spec.shape, np.uint8)

    monkeypatch.setattr("server.decoder.decode_image", slow)

    async def scenario() -> None:
        shared = decoder(threads=1)
        much = [
            asyncio.ensure_future(shared.decode(named("much", 5), SPEC, caller="much"))
            for _ in range(4)
        ]
        await asyncio.to_thread(begun.wait, 30)
        little = asyncio.ensure_future(shared.decode(named("little"), SPEC, caller="little"))
        await asyncio.sleep(0)
        go_on.set()
        await asyncio.gather(*much, little)

    asyncio.run(scenario())
    assert order.index("little") == 1
    assert len(order) == 21

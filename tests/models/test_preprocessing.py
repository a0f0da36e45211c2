"""Golden images: exact pixels for every mode, orientation, filter and fit."""

from __future__ import annotations

import io
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from models.card import InputSpec
from models.errors import ImageError
from models.preprocessing import fit_arrays, fit_image

RAMP = np.arange(0, 240, 10, dtype=np.uint8).reshape(4, 6)


def spec(channels: Literal[1, 3], height: int, width: int, **changes: Any) -> InputSpec:
    return InputSpec(channels=channels, height=height, width=width, **changes)


def array(*rows: list[int]) -> NDArray[np.uint8]:
    return np.array(rows, dtype=np.uint8)


def reopened(image: Image.Image, format: str, **options: Any) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return Image.open(io.BytesIO(stream.getvalue()))


def test_an_image_that_fits_passes_bit_for_bit() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 7), dtype=np.uint8)
    for fit in ("stretch", "crop", "pad"):
        colour = reopened(Image.fromarray(pixels.transpose(1, 2, 0)), "PNG")
        fitted = fit_image(colour, spec(3, 5, 7, fit=fit, resize="lanczos"))
        assert fitted.flags.c_contiguous
        assert fitted.dtype == np.uint8
        np.testing.assert_array_equal(fitted, pixels)
        grey = reopened(Image.fromarray(pixels[0]), "PNG")
        np.testing.assert_array_equal(fit_image(grey, spec(1, 5, 7, fit=fit)), pixels[:1])


def test_orientation_of_a_camera_is_undone() -> None:
    for orientation, expected in {
        1: RAMP,
        3: RAMP[::-1, ::-1],
        6: np.rot90(RAMP, -1),
        8: np.rot90(RAMP),
    }.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        image = reopened(Image.fromarray(RAMP), "PNG", exif=exif)
        height, width = expected.shape
        np.testing.assert_array_equal(fit_image(image, spec(1, height, width))[0], expected)


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    wide = np.array([[0, 128, 129, 257], [32768, 65278, 65407, 65535]], dtype=np.uint16)
    expected = array([0, 0, 1, 1], [128, 254, 255, 255])
    for format in ("PNG", "TIFF"):
        image = reopened(Image.fromarray(wide), format)
        assert image.mode.startswith("I")
        np.testing.assert_array_equal(fit_image(image, spec(1, 2, 4))[0], expected)
        np.testing.assert_array_equal(fit_image(image, spec(3, 2, 4))[2], expected)
    high_byte_first = Image.frombytes("I;16B", (4, 2), wide.astype(">u2").tobytes())
    np.testing.assert_array_equal(fit_image(high_byte_first, spec(1, 2, 4))[0], expected)


def test_one_bit_images_become_black_and_white() -> None:
    image = reopened(Image.fromarray(RAMP > 100), "PNG")
    assert image.mode == "1"
    np.testing.assert_array_equal(fit_image(image, spec(1, 4, 6))[0], np.where(RAMP > 100, 255, 0))


def test_palettes_are_looked_up() -> None:
    image = Image.fromarray(array([0, 1, 2]))
    image = image.convert("P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    fitted = fit_image(reopened(image, "PNG"), spec(3, 1, 3))
    np.testing.assert_array_equal(fitted[:, 0], 255 * np.eye(3))
    # ITU-R 601-2: .299 R + .587 G + .114 B.
    np.testing.assert_array_equal(
        fit_image(reopened(image, "PNG"), spec(1, 1, 3))[0], array([76, 150, 29])
    )


def transparent_palette() -> Image.Image:
    image = Image.fromarray(array([0, 1, 2])).convert("P")
    image.putpalette([200, 200, 200, 0, 0, 0, 255, 255, 255])
    return reopened(image, "PNG", transparency=0)


def transparent_grey() -> Image.Image:
    return reopened(Image.fromarray(array([200, 0, 255])), "PNG", transparency=200)


def grey_with_alpha() -> Image.Image:
    return Image.merge(
        "LA", [Image.fromarray(array([200, 0, 255])), Image.fromarray(array([0, 255, 255]))]
    )


def colour_with_alpha() -> Image.Image:
    bands = [Image.fromarray(array([200, 0, 255]))] * 3
    return Image.merge("RGBA", [*bands, Image.fromarray(array([0, 255, 255]))])


@pytest.mark.parametrize(
    "make", [transparent_palette, transparent_grey, grey_with_alpha, colour_with_alpha]
)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("background", [0, 77, 255])
def test_transparency_shows_the_background(
    make: Any, channels: Literal[1, 3], background: int
) -> None:
    fitted = fit_image(make(), spec(channels, 1, 3, background=background))
    for band in fitted:
        np.testing.assert_array_equal(band, array([background, 0, 255]))


def test_half_transparent_pixels_are_mixed() -> None:
    image = Image.new("RGBA", (1, 1), (200, 100, 0, 128))
    fitted = fit_image(image, spec(3, 1, 1, background=100))
    np.testing.assert_array_equal(fitted[:, 0, 0], [150, 100, 50])
    premultiplied = image.convert("RGBa")
    again = fit_image(premultiplied, spec(3, 1, 1, background=100))
    assert np.abs(again.astype(int) - fitted.astype(int)).max() <= 1


def test_printers_colours_become_screen_colours() -> None:
    for ink, expected in {
        (0, 0, 0, 0): (255, 255, 255),
        (255, 0, 0, 0): (0, 255, 255),
        (0, 0, 0, 255): (0, 0, 0),
    }.items():
        image = reopened(Image.new("CMYK", (8, 8), ink), "TIFF")
        np.testing.assert_array_equal(fit_image(image, spec(3, 8, 8))[:, 0, 0], expected)
        photo = reopened(Image.new("CMYK", (8, 8), ink), "JPEG", quality=100)
        assert photo.mode == "CMYK"
        off = fit_image(photo, spec(3, 8, 8))[:, 4, 4].astype(int) - np.array(expected)
        assert np.abs(off).max() <= 2


@pytest.mark.parametrize(
    ("resize", "expected"),
    [
        ("nearest", array([70, 100], [190, 220])),
        # Means of 2x3 blocks of a ramp that rises 10 per column and 60 per row.
        ("box", array([40, 70], [160, 190])),
        # A triangle over twice the block, cut at the border and normalised: 12.5 and 37.5 in a
        # row, rounded, plus 300/7 and 960/7 down the columns.
        ("bilinear", array([56, 81], [150, 175])),
    ],
)
def test_filters_are_what_they_are_called(resize: str, expected: NDArray[np.uint8]) -> None:
    fitted = fit_image(Image.fromarray(RAMP), spec(1, 2, 2, resize=resize))
    np.testing.assert_array_equal(fitted[0], expected)


def test_enlarging_bilinearly() -> None:
    fitted = fit_image(Image.fromarray(array([0, 100])), spec(1, 1, 4))
    np.testing.assert_array_equal(fitted[0], array([0, 25, 75, 100]))


def test_crop_keeps_the_centre_and_pad_keeps_all() -> None:
    image = Image.fromarray(RAMP)
    np.testing.assert_array_equal(fit_image(image, spec(1, 4, 4, fit="crop"))[0], RAMP[:, 1:5])
    padded = fit_image(image, spec(1, 8, 6, fit="pad", background=9))[0]
    np.testing.assert_array_equal(padded[2:6], RAMP)
    assert (padded[[0, 1, 6, 7]] == 9).all()
    tall = fit_image(image.convert("RGB"), spec(3, 4, 7, fit="pad", background=9))
    np.testing.assert_array_equal(tall[1, :, :6], RAMP)
    assert (tall[:, :, 6] == 9).all()


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (2, 3)])
def test_any_shape_of_image_fits(fit: str, size: tuple[int, int]) -> None:
    fitted = fit_image(Image.new("L", size, 50), spec(1, 8, 8, fit=fit))
    assert fitted.shape == (1, 8, 8)
    assert fitted.max() == 50


def test_what_cannot_be_decoded_gets_a_sentence() -> None:
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    Image.fromarray(noise).save(stream, "PNG")
    truncated = Image.open(io.BytesIO(stream.getvalue()[:2000]))
    floating = Image.fromarray(RAMP.astype(np.float32))
    for image, sentence in (
        (truncated, "the image cannot be decoded"),
        (floating, "floating-point images have no defined range"),
        (Image.new("LAB", (4, 4)), "LAB"),
    ):
        with pytest.raises(ImageError, match=sentence):
            fit_image(image, spec(1, 4, 4))


@settings(max_examples=40, deadline=None)
@given(
    channels=st.sampled_from([1, 3]),
    target=st.sampled_from([1, 3]),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    fitted=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    resize=st.sampled_from(["nearest", "box", "bilinear", "bicubic", "lanczos"]),
    fit=st.sampled_from(["stretch", "crop", "pad"]),
    seed=st.integers(0, 2**16),
)
def test_a_pool_is_fitted_as_each_of_its_images_is(
    channels: int,
    target: Literal[1, 3],
    size: tuple[int, int],
    fitted: tuple[int, int],
    resize: str,
    fit: str,
    seed: int,
) -> None:
    pool = np.random.default_rng(seed).integers(0, 256, (2, channels, *size), dtype=np.uint8)
    wanted = spec(target, *fitted, resize=resize, fit=fit, background=3)
    together = fit_arrays(pool, wanted)
    assert together.shape == (2, *wanted.shape)
    for image, pixels in zip(together, pool, strict=True):
        picture = pixels[0] if channels == 1 else pixels.transpose(1, 2, 0)
        alone = fit_image(Image.fromarray(np.ascontiguousarray(picture)), wanted)
        np.testing.assert_array_equal(image, alone)


def test_a_pool_that_fits_is_not_copied() -> None:
    pool = np.zeros((3, 1, 4, 4), dtype=np.uint8)
    assert fit_arrays(pool, spec(1, 4, 4)) is pool
    assert fit_arrays(pool[:0], spec(3, 8, 8)).shape == (0, 3, 8, 8)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 1, 4, 4), dtype=np.float32),
        np.zeros((2, 4, 4), dtype=np.uint8),
        np.zeros((2, 4, 4, 3), dtype=np.uint8),
        np.zeros((2, 1, 0, 4), dtype=np.uint8),
    ],
)
def test_a_pool_of_something_else_gets_a_sentence(images: NDArray[Any]) -> None:
    with pytest.raises(ImageError, match="images must"):
        fit_arrays(images, spec(1, 4, 4))

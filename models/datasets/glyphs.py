"""Glyphs drawn from the fonts inside matplotlib: pools of images that need no download.

``letters`` is an attacker's surrogate pool, ``symbols`` a defender's out-of-distribution set.
Their fonts are disjoint and so are their characters, and both pass through the same pen, so that
a detector trained on one cannot win by recognising the renderer of the other.
"""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from models.datasets.dataset import Dataset
from models.errors import DatasetNotFound

__all__ = ["letters", "symbols"]

SIDE = 28
SCALE = 2  # images are drawn this much larger, then averaged down
POINTS = 72  # font size of the master drawing, of which every glyph is an affine image

LETTERS = tuple(string.ascii_letters)
LETTER_FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSansMono",
    "DejaVuSansMono-Oblique",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerif-Italic",
)

# Without what a reader would take for a digit or a Latin letter: no bar, no circle, no sigma.
SYMBOLS = tuple(
    "αγεηλμπχψωΓΔΛΞΠΣΨΩ!#$%&*+=?@~<>≤≥≠≈≡±×÷∀∃∂∇∈∋∏∑"  # noqa: RUF001
    "√∞∩∪⊂⊃∫∴←↑→↓↔⇒⇔■▲◆★♠♣♥♦§¶†‡"  # noqa: RUF001
)
SYMBOL_FONTS = ("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta")


@dataclass(frozen=True, slots=True)
class Pen:
    """How glyphs vary. Lengths are in pixels of the finished 28x28 image; ranges are uniform.

    Tuned so that size and stroke are those of the ``digits``, on their training part only.

    Attributes:
        height: of the glyph's bounding box.
        aspect: factor on the glyph's own width-to-height ratio.
        widest: the bounding box is never wider than this.
        rotation: degrees to either side.
        shear: horizontal, pixels per pixel of height, to either side.
        shift: from the centre, in both directions.
        strokes: extra stroke widths of the master drawing, in its pixels.
        blur: standard deviation of the Gaussian blur.
    """

    height: tuple[float, float] = (23.0, 29.0)
    aspect: tuple[float, float] = (0.8, 1.25)
    widest: float = 24.0
    rotation: float = 12.0
    shear: float = 0.25
    shift: float = 2.0
    strokes: tuple[int, ...] = (0, 2, 4)
    blur: tuple[float, float] = (0.8, 1.8)


PEN = Pen()


def letters(*, train: int = 12_000, test: int = 1_000, seed: int = 0) -> Dataset:
    """A-Z and a-z in eight DejaVu faces, 1x28x28, white on black, 52 classes.

    Args:
        train: training images.
        test: test images, drawn after the training images by the same generator.
        seed: draws faces, jitter and order.

    Raises:
        DatasetNotFound: matplotlib is not installed.
    """
    return _dataset(
        "letters", characters=LETTERS, fonts=LETTER_FONTS, train=train, test=test, seed=seed
    )


def symbols(*, train: int = 6_000, test: int = 500, seed: int = 0) -> Dataset:
    """Greek, mathematical and other signs in four STIX faces, 1x28x28, white on black.

    Args:
        train: training images.
        test: test images, drawn after the training images by the same generator.
        seed: draws faces, jitter and order.

    Raises:
        DatasetNotFound: matplotlib is not installed.
    """
    return _dataset(
        "symbols", characters=SYMBOLS, fonts=SYMBOL_FONTS, train=train, test=test, seed=seed
    )


def _dataset(
    name: str,
    *,
    characters: tuple[str, ...],
    fonts: tuple[str, ...],
    train: int,
    test: int,
    seed: int,
) -> Dataset:
    images, labels = _pool(characters=characters, fonts=fonts, counts=(train, test), seed=seed)
    return Dataset(
        name=name,
        train_images=images[:train].copy(),
        train_labels=labels[:train].copy(),
        test_images=images[train:].copy(),
        test_labels=labels[train:].copy(),
        labels=characters,
    )


@lru_cache(maxsize=2)
def _pool(
    *, characters: tuple[str, ...], fonts: tuple[str, ...], counts: tuple[int, int], seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    generator = np.random.default_rng(seed)
    labels = np.arange(sum(counts), dtype=np.int64) % len(characters)
    for part in (labels[: counts[0]], labels[counts[0] :]):
        generator.shuffle(part)
    return _draw([characters[label] for label in labels], fonts, generator, PEN), labels


def _draw(
    characters: Sequence[str], fonts: Sequence[str], generator: np.random.Generator, pen: Pen
) -> NDArray[np.uint8]:
    count = len(characters)
    faces = {font: _characters_of(font) for font in fonts}
    choice = generator.random(count)
    strokes = generator.choice(pen.strokes, count)
    heights = generator.uniform(*pen.height, count)
    aspects = generator.uniform(*pen.aspect, count)
    angles = np.radians(generator.uniform(-pen.rotation, pen.rotation, count))
    shears = generator.uniform(-pen.shear, pen.shear, count)
    shifts = generator.uniform(-pen.shift, pen.shift, (count, 2))
    blurs = generator.uniform(*pen.blur, count)
    images = np.empty((count, 1, SIDE, SIDE), dtype=np.uint8)
    masters: dict[tuple[str, str, int], Image.Image] = {}
    for index, character in enumerate(characters):
        able = [font for font in fonts if ord(character) in faces[font]]
        key = (able[int(choice[index] * len(able))], character, int(strokes[index]))
        if key not in masters:
            masters[key] = _master(*key)
        images[index, 0] = _image(
            masters[key],
            height=heights[index],
            aspect=aspects[index],
            widest=pen.widest,
            angle=angles[index],
            shear=shears[index],
            shift=shifts[index],
            blur=blurs[index],
        )
    return images


def _image(
    master: Image.Image,
    *,
    height: float,
    aspect: float,
    widest: float,
    angle: float,
    shear: float,
    shift: NDArray[np.float64],
    blur: float,
) -> NDArray[np.uint8]:
    # A glyph flatter than it is high keeps its shape: width is bounded, height then follows.
    ratio = master.width / master.height * aspect
    width = min(height * ratio, widest)
    height = min(height, 2 * width / ratio)
    scale = np.diag([width / master.width, height / master.height]) * SCALE
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    inverse = np.linalg.inv(turn @ np.array([[1.0, shear], [0.0, 1.0]]) @ scale)
    centre = (SIDE / 2 + shift) * SCALE
    offset = np.array([master.width / 2, master.height / 2]) - inverse @ centre
    drawn = master.transform(
        (SIDE * SCALE, SIDE * SCALE),
        Image.Transform.AFFINE,
        (*inverse[0], offset[0], *inverse[1], offset[1]),
        Image.Resampling.BILINEAR,
    )
    return np.asarray(drawn.filter(ImageFilter.GaussianBlur(float(blur) * SCALE)).reduce(SCALE))


def _master(font: str, character: str, stroke: int) -> Image.Image:
    """The glyph at ``POINTS``, cropped to its ink."""
    face = ImageFont.truetype(_font_file(font), POINTS)
    canvas = Image.new("L", (4 * POINTS, 4 * POINTS))
    ImageDraw.Draw(canvas).text(
        (POINTS, POINTS), character, fill=255, font=face, stroke_width=stroke
    )
    return canvas.crop(canvas.getbbox())


def _characters_of(font: str) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(_font_file(font)).get_charmap())


def _font_file(font: str) -> str:
    try:
        import matplotlib
    except ImportError as error:
        raise DatasetNotFound(
            "letters and symbols are drawn from matplotlib's fonts, and matplotlib is not "
            "installed: pip install intaglio[data]"
        ) from error
    return str(Path(matplotlib.get_data_path(), "fonts", "ttf", f"{font}.ttf"))

"""Augmentation-averaging: n views of every image, for defenses that tell one image from another."""

from __future__ import annotations

from typing import ClassVar, get_args

import numpy as np
from numpy.typing import NDArray

from attack_client.adaptive.averaging import Averaging
from attack_client.adaptive.views import Style, view
from attack_client.checked_numbers import whole_number

__all__ = ["AugmentationAveraging"]


class AugmentationAveraging(Averaging):
    """The image and n - 1 views of it, averaged: views of one image mean the same thing.

    Averages over what depends on the exact image: noise seeded by a hash of it, and, as far as
    the views move it from one member to another, an ensemble that routes every query to one
    member (EDM). Isolation and Induction's authors attack EDM so, with n = 5 and these views.

    Args:
        n: queries per image, the image itself included.
        style: ``affine``, or what small drawings bear better: ``shift`` or ``shift-flip``.
        seed: of the views.
    """

    kind: ClassVar[str] = "augmentation-averaging"

    def __init__(self, *, n: int = 5, style: Style = "affine", seed: int = 0) -> None:
        super().__init__(n=n)
        if style not in get_args(Style):
            raise ValueError(f"style must be one of {', '.join(get_args(Style))}, not {style!r}")
        self.style: Style = style
        self.seed = whole_number("seed", seed, least=0)

    def version(self, number: int, start: int, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """View ``number`` of each image, drawn from the seed and the image's position."""
        return view(images, self.style, seed=self.seed, start=start, number=number)

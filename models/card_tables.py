"""What was found out about a network and is kept beside it, for defenses to choose by."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveInt, StringConstraints, model_validator

from models.record import Record, Sha256, Share

__all__ = ["LARGEST_CODEBOOK", "Calibration", "CodebookCard", "Sensitivity"]

LARGEST_CODEBOOK = 65_536
"""Words that a codebook may hold."""


class Calibration(Record):
    """What a threshold costs, measured on validation data: the table a threshold is chosen from.

    Row ``i`` says: at ``thresholds[i]`` the served answers have accuracy ``accuracies[i]`` and a
    share ``rejected[i]`` of honest queries is answered by the other network.

    Attributes:
        dataset: where it was measured.
        samples: how many validation images: one of them is the resolution of every figure here.
        reference: accuracy of the plain model on the same images; benign cost is measured from it.
        thresholds: increasing, each in [0, 1].
        accuracies: served accuracy at each threshold.
        rejected: share of validation images that fall below each threshold.
    """

    dataset: str
    samples: PositiveInt
    reference: Share
    thresholds: tuple[Share, ...] = Field(min_length=1, max_length=4096)
    accuracies: tuple[Share, ...]
    rejected: tuple[Share, ...]

    @model_validator(mode="after")
    def _aligned(self) -> Calibration:
        if not len(self.thresholds) == len(self.accuracies) == len(self.rejected):
            raise ValueError("thresholds, accuracies and rejected must have the same length")
        if any(b <= a for a, b in zip(self.thresholds, self.thresholds[1:], strict=False)):
            raise ValueError("thresholds must increase")
        return self


class CodebookCard(Record):
    """Words that a quantising defense answers with, found on calibration images.

    Attributes:
        datasets: what the images are from, in the order in which they were asked about.
        samples: how many images.
        epsilon: the L1 distance within which an answer shares a word.
        words: how many there are.
        file: inside the bundle, always ``codebook.<kind>.safetensors``.
        sha256: of that file.
    """

    datasets: tuple[str, ...] = Field(min_length=1)
    samples: PositiveInt
    epsilon: Annotated[float, Field(ge=0.0, le=2.0)]
    words: Annotated[int, Field(ge=1, le=LARGEST_CODEBOOK)]
    file: Annotated[
        str, StringConstraints(pattern=r"^codebook\.[a-z][a-z0-9-]{0,31}\.safetensors$")
    ]
    sha256: Sha256


class Sensitivity(Record):
    """How much an answer depends on each layer: by this a defense chooses those that it changes.

    Attributes:
        dataset: where it was measured.
        samples: on how many validation images.
        layers: of each weight of the victim that can be changed, by name, the mean over the images
            of the summed magnitudes of the gradient of the predicted class's probability.
    """

    dataset: str
    samples: PositiveInt
    layers: dict[str, Annotated[float, Field(ge=0.0)]] = Field(min_length=1)

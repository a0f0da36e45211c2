"""Models to measure with: right shapes and costs, random weights."""

from __future__ import annotations

from pathlib import Path

import torch

from models.architectures import build
from models.bundle import NetworkSource, write_bundle
from models.card import InputSpec, Normalisation

__all__ = ["write_random_bundle"]


def write_random_bundle(
    root: Path, name: str, architecture: str, shape: tuple[int, int, int], *, classes: int
) -> Path:
    """Write a bundle of ``architecture`` with seeded random weights for images ``shape`` (C, H, W).

    What a forward pass costs does not depend on the weights.
    """
    channels, height, width = shape
    torch.manual_seed(0)
    normalisation = Normalisation(mean=(0.5,) * channels, std=(0.5,) * channels)
    network = build(
        architecture,
        channels=channels,
        size=(height, width),
        outputs=classes,
        normalisation=normalisation,
    )
    return write_bundle(
        root,
        name=name,
        version="1",
        description="random weights, for measuring speed",
        input=InputSpec(channels=3 if channels == 3 else 1, height=height, width=width),
        labels=tuple(str(label) for label in range(classes)),
        networks={
            "victim": NetworkSource(
                module=network, architecture=architecture, normalisation=normalisation
            )
        },
    )

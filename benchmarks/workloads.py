"""Models to measure with: right shapes and costs, random weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from models.architectures import build
from models.bundle import NetworkSource, write_bundle
from models.card import InputSpec, Normalisation

__all__ = ["write_random_bundle"]


def write_random_bundle(
    root: Path,
    name: str,
    architecture: str,
    shape: tuple[int, int, int],
    *,
    classes: int,
    roles: Sequence[str] = ("victim",),
    version: str = "1",
    seed: int = 0,
) -> Path:
    """Write a bundle of networks with seeded random weights for images ``shape`` (C, H, W).

    What a forward pass costs does not depend on the weights. Every role gets a network of its own
    of ``architecture``; one called ``hash`` is a LeNet, as small a network as there is for that.
    """
    channels, height, width = shape
    torch.manual_seed(seed)
    normalisation = Normalisation(mean=(0.5,) * channels, std=(0.5,) * channels)
    networks = {}
    for role in roles:
        chosen = "lenet" if role == "hash" else architecture
        networks[role] = NetworkSource(
            module=build(
                chosen,
                channels=channels,
                size=(height, width),
                outputs=classes,
                normalisation=normalisation,
            ),
            architecture=chosen,
            normalisation=normalisation,
        )
    return write_bundle(
        root,
        name=name,
        version=version,
        description="random weights, for measuring speed",
        input=InputSpec(channels=3 if channels == 3 else 1, height=height, width=width),
        labels=tuple(str(label) for label in range(classes)),
        networks=networks,
    )

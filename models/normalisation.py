"""Normalisation constants by name, as the papers' code has them."""

from __future__ import annotations

from collections.abc import Mapping

from models.card import Normalisation
from models.errors import ArchitectureError

__all__ = ["PRESETS", "preset", "preset_for"]

PRESETS: Mapping[str, Normalisation] = {
    # KnockoffNets and InI use the first, Adaptive Misinformation the second (true pixel deviation).
    "cifar": Normalisation(mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010)),
    "cifar-am": Normalisation(mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616)),
    "half": Normalisation(mean=(0.5,), std=(0.5,)),
    # What torchvision's published weights expect.
    "imagenet": Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    "mnist": Normalisation(mean=(0.1307,), std=(0.3081,)),
    "none": Normalisation(mean=(0.0,), std=(1.0,)),
    "tiny-imagenet": Normalisation(mean=(0.4802, 0.4481, 0.3975), std=(0.2302, 0.2265, 0.2262)),
}
"""One-channel presets serve any number of channels; the others are for three."""

_DATASETS = {
    "mnist": ("mnist", "fashion_mnist", "kmnist", "emnist", "digits", "letters", "symbols"),
    "cifar": ("cifar10", "cifar100"),
}


def preset(name: str, channels: int) -> Normalisation:
    """The preset ``name`` for images of ``channels`` channels.

    Raises:
        ArchitectureError: there is no such preset, or it is not made for so many channels.
    """
    try:
        constants = PRESETS[name]
    except KeyError:
        raise ArchitectureError(
            f"there is no normalisation {name!r}: there are {', '.join(sorted(PRESETS))}"
        ) from None
    if len(constants.mean) == 1:
        return Normalisation(mean=constants.mean * channels, std=constants.std * channels)
    if len(constants.mean) != channels:
        raise ArchitectureError(
            f"normalisation {name!r} is for {len(constants.mean)} channels, not {channels}"
        )
    return constants


def preset_for(dataset: str, channels: int) -> str:
    """Name of the preset that the literature uses for ``dataset``; ``half`` for any other.

    A variant is recognised by its prefix: ``kmnist_t10k`` is of the MNIST family.
    """
    for name, prefixes in _DATASETS.items():
        if dataset.startswith(prefixes) and len(PRESETS[name].mean) in {1, channels}:
            return name
    return "half"

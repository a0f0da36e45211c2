"""From weights that were trained elsewhere to a bundle."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attack_client.reference import label_difference
from intaglio.layer_sensitivity import SAMPLES, measure
from intaglio.versions import next_version
from models import datasets
from models.architectures import build
from models.bundle import NetworkSource, write_bundle
from models.bundle.weights import check_match, from_bytes
from models.card import InputSpec, Measurement, Normalisation
from models.datasets import Dataset
from models.errors import BundleError, DatasetError
from models.preprocessing import fit_arrays
from models.training.evaluate import accuracy, probabilities

__all__ = ["Description", "import_weights"]

PREFIXES = ("network.", "module.", "_orig_mod.")
"""What stands before a tensor's name in files of ours, of data-parallel training, of compiling."""

PICKLED = (b"PK\x03\x04", b"\x80")
"""How files of ``torch.save`` begin, new and old."""


@dataclass(frozen=True, slots=True)
class Description:
    """What weights alone do not say of a classifier.

    Attributes:
        architecture: a registered name, ``package.module:factory`` or ``file.py:factory``.
        input: what it is shown.
        normalisation: applied to pixels in [0, 1] before the network sees them.
        labels: K class names in the order of the logits.
        arguments: the architecture's own.
        text: a sentence for people.
    """

    architecture: str
    input: InputSpec
    normalisation: Normalisation
    labels: Sequence[str]
    arguments: Mapping[str, bool | int | float | str] = field(default_factory=dict)
    text: str = ""


def import_weights(
    weights: Path,
    out: Path,
    name: str,
    description: Description,
    *,
    version: str | None = None,
    data: str | None = None,
    data_root: Path | None = None,
    device: torch.device | str = "cpu",
    allow_factories: Collection[str] = (),
) -> Path:
    """Write the bundle ``out/NAME/VERSION`` around the weights of a network trained elsewhere.

    Tensors are taken by the names that the network's own ``state_dict`` has, or by those with
    ``module.`` before them; weights in 16 or 64 bits become float32.

    Args:
        weights: a safetensors file with the state dict.
        out: where bundles are kept.
        name: of the model.
        description: what the file does not say.
        version: of the bundle; None for the next number.
        data: labelled images of the task: accuracy is measured on its test images, and the
            sensitivity of layers, which DeepDefense asks for, on some of its training images.
        data_root: where datasets are looked for.
        device: where that is measured.
        allow_factories: the user's own architectures that may be called.

    Returns:
        The directory of the bundle.

    Raises:
        BundleError: the file is missing, no safetensors file, or not of this architecture.
        ArchitectureError: there is no such architecture, or it cannot be built so.
        DatasetError: ``data`` has other labels.
    """
    version = version or next_version(out, name)
    held = _read(weights)
    dataset = None if data is None else datasets.load(data, root=data_root)
    if dataset is not None and tuple(dataset.labels) != tuple(description.labels):
        raise DatasetError(
            label_difference(str(data), dataset.labels, "the model", description.labels)
        )
    spec = description.input
    network = build(
        description.architecture,
        channels=spec.channels,
        size=(spec.height, spec.width),
        outputs=len(description.labels),
        normalisation=description.normalisation,
        arguments=description.arguments,
        allow_factories=allow_factories,
    )
    own = network.network.state_dict()
    tensors = _as_trained(held, own)
    check_match(tensors, own, source=str(weights), architecture=description.architecture)
    network.network.load_state_dict(tensors, strict=True)
    network.to(device).eval()
    return write_bundle(
        out,
        name=name,
        version=version,
        description=description.text,
        input=spec,
        labels=tuple(description.labels),
        networks={
            "victim": NetworkSource(
                module=network,
                architecture=description.architecture,
                normalisation=description.normalisation,
                arguments=description.arguments,
                measured=() if dataset is None else _measured(network, dataset, spec, device),
            )
        },
        sensitivity=None
        if dataset is None
        else measure({"victim": network}, dataset.name, _shown(dataset.train_images, spec), device),
    )


def _read(weights: Path) -> dict[str, Tensor]:
    try:
        data = weights.read_bytes()
    except OSError as error:
        raise BundleError(f"{weights} cannot be read: {error.strerror}") from error
    try:
        return from_bytes(data, str(weights))
    except BundleError as error:
        if not data.startswith(PICKLED):
            raise
        raise BundleError(
            f"{weights} is a pickle, which can run code and is never loaded: where it was made, "
            "write the weights with safetensors.torch.save_file(model.state_dict(), FILE)"
        ) from error


def _as_trained(held: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``held`` under the network's own names, and in its own types of number."""
    found: dict[str, Tensor] = {}
    for given, tensor in held.items():
        name = given
        while name not in own and name.startswith(PREFIXES):
            name = name.partition(".")[2]
        like = own.get(name)
        floats = like is not None and like.is_floating_point() and tensor.is_floating_point()
        found[name] = tensor.to(like.dtype) if like is not None and floats else tensor
    return found


def _measured(
    network: nn.Module, dataset: Dataset, spec: InputSpec, device: torch.device | str
) -> tuple[Measurement, ...]:
    if not len(dataset.test_images):
        return ()
    answers = probabilities(
        network, torch.from_numpy(fit_arrays(dataset.test_images, spec)), device=device
    )
    right = accuracy(answers, torch.from_numpy(dataset.test_labels))
    return (Measurement(dataset=dataset.name, split="test", samples=len(answers), accuracy=right),)


def _shown(images: NDArray[np.uint8], spec: InputSpec) -> Tensor:
    # All over the set, which may be sorted by class.
    stride = max(1, len(images) // SAMPLES)
    return torch.from_numpy(fit_arrays(images[::stride][:SAMPLES], spec))

"""The answers of a bundle to the test images of a dataset."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from attack_client.reference import label_difference, split_seed_of
from models import datasets
from models.bundle import load_victim, open_bundle, resolve_bundle
from models.errors import DatasetError
from models.preprocessing import fit_arrays
from models.training.data import to_unit

__all__ = ["Said", "answers_of"]

BATCH = 256


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """What a victim said of a test set.

    Attributes:
        logits: ``(N, K)``.
        truth: the labels ``(N,)``.
        labels: K class names.
    """

    logits: Tensor
    truth: Tensor
    labels: tuple[str, ...]


def answers_of(
    name: str,
    root: Path,
    data: str,
    *,
    data_root: Path | None = None,
    device: torch.device | str = "cpu",
    allow_factories: Collection[str] = (),
) -> Said:
    """Ask the victim of a bundle about a test set.

    Args:
        name: NAME or NAME/VERSION under ``root``.
        root: where bundles are kept.
        data: the dataset.
        data_root: where datasets are looked for.
        device: where the victim answers; an ensemble, each image by its own member.
        allow_factories: the user's own architectures that the bundle may name.

    Raises:
        ModelsError: there is no such bundle or dataset, or it is not right.
        DatasetError: its labels are not those of the bundle, or it has no test images.
    """
    bundle = open_bundle(resolve_bundle(root, name), allow_factories=allow_factories)
    split = split_seed_of(bundle.card) or 0  # else what it was trained on would be tested
    dataset = datasets.load(data, root=data_root, split_seed=split)
    if tuple(dataset.labels) != bundle.card.labels:
        raise DatasetError(label_difference(data, dataset.labels, name, bundle.card.labels))
    if not len(dataset.test_images):
        raise DatasetError(f"{data} has no test images")
    victim = load_victim(bundle, device)
    images = torch.from_numpy(fit_arrays(dataset.test_images, bundle.card.input))
    with torch.inference_mode():
        logits = torch.cat(
            [
                victim.logits(to_unit(part, device)).float().cpu()
                for part in torch.split(images, BATCH)
            ]
        )
    return Said(logits, torch.from_numpy(dataset.test_labels), bundle.card.labels)

"""The answers of a bundle to the test images of a dataset, summed up."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import torch

from attack_client.reference import split_seed_of
from models import datasets
from models.answer_statistics import AnswerStatistics, answer_statistics
from models.bundle import load_victim, open_bundle, resolve_bundle
from models.errors import DatasetError
from models.preprocessing import fit_arrays
from models.training.data import to_unit

__all__ = ["answers_of"]

BATCH = 256


def answers_of(
    name: str,
    root: Path,
    data: str,
    *,
    temperature: float,
    data_root: Path | None = None,
    device: torch.device | str = "cpu",
    allow_factories: Collection[str] = (),
) -> AnswerStatistics:
    """Ask the victim of a bundle about a test set.

    Args:
        name: NAME or NAME/VERSION under ``root``.
        root: where bundles are kept.
        data: the dataset.
        temperature: by which logits are divided, above 0.
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
        raise DatasetError(f"{data} has other labels than {name}")
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
    return answer_statistics(logits, torch.from_numpy(dataset.test_labels), temperature)

"""From a bundle and images to a bundle with words that a quantising defense answers with."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from defenses.budget import checked_budget
from defenses.codebook_frozen import FrozenCodebook
from defenses.codebook_memory import MemoryCodebook
from defenses.modelguard_s import ModelGuardS
from intaglio.recipe import Recipe
from intaglio.training_data import prepare
from models import datasets
from models.bundle import Bundle, add_codebook, load_victim, open_bundle
from models.errors import BundleError
from models.preprocessing import fit_arrays
from models.simplex import GRID, round_to_grid, top1
from models.training.data import to_unit
from models.victim import Victim

__all__ = ["Calibrated", "calibrate_modelguard_s"]

BATCH = 256


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What calibration left behind.

    Attributes:
        bundle: the new version.
        samples: images that were asked about.
        words: how many words they needed.
        answered: share of the images that a word answers; the others found their class full.
        distortion: mean L1 distance that an answer moves, over all images.
    """

    bundle: Bundle
    samples: int
    words: int
    answered: float
    distortion: float


def calibrate_modelguard_s(
    path: Path,
    *,
    data: Sequence[str] = (),
    epsilon: float = 1.0,
    capacity: int = 4096,
    limit: int = 10_000,
    seed: int = 0,
    data_root: Path | None = None,
    device: torch.device | str = "cpu",
    allow_factories: Collection[str] = (),
) -> Calibrated:
    """Ask a victim about images and keep the words of ordered quantisation in a new bundle.

    Of the dataset that the victim was trained on, only the images that training held out are
    asked about: it is surer of the others than of anything it will see. Of another one, the
    training images. Test sets are left alone.

    Args:
        path: directory of the bundle.
        data: datasets, in the order in which they are asked about; by default the victim's own.
        epsilon: L1 distance within which an answer shares a word.
        capacity: words of all classes together.
        limit: images of each dataset, drawn by ``seed``.
        seed: draws the images and their order, which decides what becomes a word.
        data_root: where datasets are looked for.
        device: where the victim answers.
        allow_factories: the user's own architectures that the bundle may name.

    Raises:
        DefenseError: ``epsilon`` or ``capacity`` is out of range.
        ModelsError: the bundle or a dataset is not there, or not right.
    """
    checked_budget(epsilon)
    codebook = MemoryCodebook(capacity)
    bundle = open_bundle(path, allow_factories=allow_factories)
    own = _recipe(bundle)
    names = tuple(data) or ((own.data.train,) if own is not None else ())
    if not names:
        raise BundleError(f"{path} does not say what it was trained on: name a dataset")
    images = [
        _images(name, bundle, own, limit=limit, seed=seed, data_root=data_root) for name in names
    ]
    victim = load_victim(bundle, device)
    said = torch.cat([_said(victim, part, device) for part in images])
    for rows in torch.split(said, BATCH):
        codebook.look_up_or_insert(rows, top1(rows), epsilon)
    words = codebook.words()
    extended = add_codebook(
        bundle, ModelGuardS.kind, words, epsilon=epsilon, datasets=names, samples=len(said)
    )
    found, moved = _judged(codebook, said, epsilon)
    return Calibrated(extended, len(said), len(words), found, moved)


def _recipe(bundle: Bundle) -> Recipe | None:
    """How the victim was trained, where its card says that in a form that we know."""
    training = bundle.card.networks["victim"].training if "victim" in bundle.card.networks else None
    if training is None:
        return None
    try:
        return Recipe.model_validate(training.recipe)
    except ValidationError:
        return None


def _images(
    name: str,
    bundle: Bundle,
    own: Recipe | None,
    *,
    limit: int,
    seed: int,
    data_root: Path | None,
) -> Tensor:
    """Up to ``limit`` uint8 images ``(n, C, H, W)`` as the victim is shown them, shuffled."""
    spec = bundle.card.input
    if own is not None and name == own.data.train:
        plain = own.model_copy(update={"data": own.data.model_copy(update={"ood": None})})
        images = prepare(plain, data_root=data_root, needs_ood=False).validation[0]
    else:
        found = datasets.load(name, root=data_root).train_images
        order = np.random.default_rng(seed).permutation(len(found))[:limit]
        images = torch.from_numpy(np.ascontiguousarray(fit_arrays(found[np.sort(order)], spec)))
    order = np.random.default_rng(seed).permutation(len(images))[:limit]
    return images[torch.from_numpy(order)]


@torch.inference_mode()
def _said(victim: Victim, images: Tensor, device: torch.device | str) -> Tensor:
    """What the victim says of uint8 images, canonical as the engine makes it: ``(n, K)``."""
    answers = [
        victim.logits(to_unit(part, device)).float().softmax(dim=1)
        for part in torch.split(images, BATCH)
    ]
    return round_to_grid(torch.cat(answers).cpu(), GRID)


def _judged(codebook: MemoryCodebook, said: Tensor, epsilon: float) -> tuple[float, float]:
    """Share of rows with a word, and how far answers move on average, words or not."""
    defense = ModelGuardS(epsilon=epsilon, codebook=FrozenCodebook(codebook.words()))
    found, moved = 0, 0.0
    for rows in torch.split(said, BATCH):
        served, known = defense.quantised(rows)
        found += int(known.sum())
        moved += float((served.double() - rows.double()).abs().sum())
    return found / len(said), moved / len(said)

"""Adversarial sets on disk: made chunk by chunk, so that a kill costs one chunk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from models.adversarial.card import AdversarialCard, AdversarialSource
from models.adversarial.pgd import pgd
from models.errors import TrainingError
from models.simplex import top1
from models.training.atomic import write_atomically
from models.training.data import to_unit
from models.training.evaluate import probabilities
from models.training.lock import locked
from models.training.order import generator

__all__ = ["CHUNK", "adversarial_set", "images_digest"]

CARD = "card.json"
IMAGES = "images.npy"
PARTIAL = "images.npy.partial"
PROGRESS = "progress.json"
CHUNK = 256
"""Images per random generator and per write; part of what a seed means."""


def images_digest(images: Tensor, labels: Tensor) -> str:
    """sha256 of images ``(N, C, H, W)`` uint8 and their labels ``(N,)`` int64."""
    digest = hashlib.sha256(f"{tuple(images.shape)}".encode())
    for tensor in (images, labels):
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def adversarial_set(
    root: Path,
    source: AdversarialSource,
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """The adversarial version of every image, from ``root`` or made now and kept there.

    What was made before an interruption is not made again.

    Args:
        root: where sets are kept, each in a directory of its own.
        source: what the set is made from and how; must tell the truth about the other arguments.
        network: the one that is attacked; moved to ``device``.
        images: ``(N, C, H, W)`` uint8.
        labels: the true ones, ``(N,)`` int64.
        device: where to work.
        progress: told how many images are done, of how many, after every chunk made.

    Returns:
        ``(N, C, H, W)`` uint8, on the CPU; rounding may exceed epsilon by half a grey level.

    Raises:
        TrainingError: a set is damaged, or another process is making it.
    """
    identity = hashlib.sha256(source.model_dump_json().encode()).hexdigest()[:12]
    directory = root / f"{source.base.replace('/', '-')}-{identity}"
    with locked(directory, f"another process is making the adversarial set in {directory}"):
        if not (directory / CARD).exists():
            network.to(device)
            _make(directory, source, network, images, labels, device=device, progress=progress)
        return _load(directory, source, images)


def _make(
    directory: Path,
    source: AdversarialSource,
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    device: torch.device | str,
    progress: Callable[[int, int], None] | None,
) -> None:
    partial = directory / PARTIAL
    done, fooled = _progress(directory)
    if done:
        kept = np.lib.format.open_memmap(partial, mode="r+")
    else:
        shape = tuple(images.shape)
        kept = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
    attack = source.attack
    for first in range(done, len(images), CHUNK):
        chunk = to_unit(images[first : first + CHUNK], device)
        wanted = labels[first : first + CHUNK].to(device)
        draws = generator(source.seed, "pgd", first // CHUNK)
        start = attack.epsilon * (2.0 * torch.rand(chunk.shape, generator=draws) - 1.0)
        found = pgd(
            network,
            chunk,
            wanted,
            start=start.to(device),
            epsilon=attack.epsilon,
            step=attack.step,
            iterations=attack.iterations,
        )
        grey = (found * 255.0).round().to(torch.uint8).cpu()
        last = first + len(grey)
        kept[first:last] = grey.numpy()
        kept.flush()
        said = top1(probabilities(network, grey, device=device))
        fooled += int((said != labels[first:last]).sum())
        state = json.dumps({"done": last, "fooled": fooled})
        write_atomically(directory / PROGRESS, state.encode())
        if progress is not None:
            progress(last, len(images))
    del kept
    partial.rename(directory / IMAGES)
    card = AdversarialCard(
        **source.model_dump(), sha256=_sha256(directory / IMAGES), fooled=fooled / len(images)
    )
    write_atomically(directory / CARD, card.model_dump_json(indent=2).encode())
    (directory / PROGRESS).unlink()


def _progress(directory: Path) -> tuple[int, int]:
    """How many images are done and how many of them fool the network."""
    if not (directory / PROGRESS).exists():
        return 0, 0
    if not (directory / PARTIAL).exists() and not (directory / IMAGES).exists():
        return 0, 0  # somebody deleted them: what they held is made again
    if not (directory / PARTIAL).exists():  # killed between the renaming and the card
        (directory / IMAGES).rename(directory / PARTIAL)
    state = json.loads((directory / PROGRESS).read_text())
    return int(state["done"]), int(state["fooled"])


def _load(directory: Path, source: AdversarialSource, images: Tensor) -> Tensor:
    try:
        card = AdversarialCard.model_validate_json((directory / CARD).read_bytes())
        said = AdversarialSource.model_validate(card.model_dump(exclude={"sha256", "fooled"}))
        sound = said == source and _sha256(directory / IMAGES) == card.sha256
    except (ValidationError, OSError) as error:
        raise TrainingError(
            f"the adversarial set {directory} cannot be read ({' '.join(str(error).split())}): "
            "delete it to have it made again"
        ) from error
    if not sound:
        raise TrainingError(
            f"the adversarial set {directory} is not what its card describes: delete it to have "
            "it made again"
        )
    found = torch.from_numpy(np.load(directory / IMAGES, allow_pickle=False))
    assert found.shape == images.shape, "the card's digest of the images fixes their shape"
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

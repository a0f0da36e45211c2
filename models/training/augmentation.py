"""Augmentation of uint8 batches: small translations, with or without a mirror image."""

from __future__ import annotations

import torch
from torch import Tensor

from models.training.plan import Augment

__all__ = ["augmented"]

REACH = {"shift": 2, "crop-flip": 4}


def augmented(images: Tensor, augment: Augment, generator: torch.Generator) -> Tensor:
    """Each image of ``(B, C, H, W)`` moved over a black margin, independently of the others.

    ``crop-flip`` is the usual "pad by four, crop, mirror half of them". The draws are made on
    the CPU, so that they are the same whatever the device of ``images``.
    """
    if augment == "none":
        return images
    count, channels, height, width = images.shape
    reach = REACH[augment]
    top, left = torch.randint(0, 2 * reach + 1, (2, count, 1), generator=generator)
    rows = top + torch.arange(height)
    columns = left + torch.arange(width)
    if augment == "crop-flip":
        mirrored = torch.rand((count, 1), generator=generator) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    padded = torch.nn.functional.pad(images, (reach, reach, reach, reach))
    moved: Tensor = padded[
        torch.arange(count, device=images.device)[:, None, None, None],
        torch.arange(channels, device=images.device)[None, :, None, None],
        rows.to(images.device)[:, None, :, None],
        columns.to(images.device)[:, None, None, :],
    ]
    return moved

"""Moving images along the gradient of a clone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from attack_client.apprentice import Apprentice
from models.training.data import to_unit

__all__ = ["step_along", "step_towards"]

BATCH = 512
"""Images in one backward pass."""


def step_along(
    apprentice: Apprentice,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    pixels: NDArray[np.float32],
) -> NDArray[np.uint8]:
    """``clip(x + pixels sign(d z_c(x) / d x))``, rounded; z are logits and c are ``labels``.

    The gradient of a sum over images is the gradient of each: one backward pass per batch, where
    the Jacobian would take K per image.

    Args:
        apprentice: the clone.
        images: ``(n, C, H, W)`` uint8.
        labels: ``(n,)`` int64.
        pixels: ``(C, 1, 1)``, the step in [-1, 1].
    """

    def moved(x: Tensor, classes: Tensor, step: Tensor) -> Tensor:
        spoken = apprentice.network(x).gather(1, classes[:, None]).sum()
        (gradient,) = torch.autograd.grad(spoken, x)
        return (x.detach() + step * gradient.sign()).clamp(0.0, 1.0)

    return _in_batches(moved, apprentice, images, labels, pixels)


def step_towards(
    apprentice: Apprentice,
    images: NDArray[np.uint8],
    targets: NDArray[np.int64],
    pixels: NDArray[np.float32],
    *,
    steps: int,
) -> NDArray[np.uint8]:
    """``steps`` steps of ``pixels / steps`` down the clone's cross-entropy with ``targets``.

    Rounded once, at the end.
    """

    def moved(x: Tensor, classes: Tensor, step: Tensor) -> Tensor:
        for _ in range(steps):
            loss = functional.cross_entropy(apprentice.network(x), classes, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, x)
            x = (x.detach() - step / steps * gradient.sign()).clamp(0.0, 1.0).requires_grad_()
        return x.detach()

    return _in_batches(moved, apprentice, images, targets, pixels)


def _in_batches(
    moved: Callable[[Tensor, Tensor, Tensor], Tensor],
    apprentice: Apprentice,
    images: NDArray[np.uint8],
    classes: NDArray[np.int64],
    pixels: NDArray[np.float32],
) -> NDArray[np.uint8]:
    step = torch.from_numpy(pixels).to(apprentice.device)
    parts = []
    for first in range(0, len(images), BATCH):
        some = slice(first, first + BATCH)
        x = to_unit(torch.tensor(images[some]), apprentice.device).requires_grad_()
        wanted = torch.from_numpy(classes[some]).to(apprentice.device)
        levels = moved(x, wanted, step).mul(255.0).round()
        parts.append(levels.to(torch.uint8).cpu().numpy())
    return np.concatenate(parts)

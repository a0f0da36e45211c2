"""A thief who is told where the victim looked, and makes a clone look there too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from attack_client.clone import CloneRecipe, build_clone
from models.card import Normalisation
from models.explain import GradCam, Tap, cam_layer
from models.simplex import top1
from models.training.data import TrainingData
from models.training.loop import fit
from models.training.objective import Batch, Objective

__all__ = ["MapTheft", "train_clone_with_maps"]


@dataclass(frozen=True, slots=True)
class MapTheft:
    """What was stolen.

    Attributes:
        images: ``(N, C, H, W)`` uint8.
        targets: answers ``(N, K)`` float32, or labels ``(N,)`` int64.
        maps: ``(N, h, w)`` float32 in [0, 1], Grad-CAM of the victim; all zeros says nothing.
        classes: K.
    """

    images: NDArray[np.uint8]
    targets: NDArray[np.float32] | NDArray[np.int64]
    maps: NDArray[np.float32]
    classes: int


class Mirroring(Objective):
    """``CE(clone, victim) + lambda ||I - I_A||_F^2``: Eq. 1 of DeepDefense, after Milli et al.

    Both maps are brought to the size of the images and to Frobenius norm 1, since a service
    stretches what it shows. Flat maps count nothing.
    """

    kind: ClassVar[str] = "mirroring"
    needs_paired: ClassVar[bool] = True

    def __init__(self, network: nn.Module, weight: float) -> None:
        self._network = network
        self._weight = weight
        self._tap = Tap(network, cam_layer(network))

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """The one network."""
        return {"clone": self._network}

    def options(self) -> Mapping[str, bool | int | float | str]:
        """Lambda."""
        return {"lambda": self._weight}

    def losses(self, batch: Batch) -> Mapping[str, Tensor]:
        """``cross_entropy`` and ``maps``."""
        if batch.paired is None:
            raise ValueError("there are no maps")
        labels = batch.targets if batch.targets.ndim == 1 else top1(batch.targets)
        logits, activations = self._tap(batch.images)
        spoken = logits.gather(1, labels[:, None]).sum()
        (gradient,) = torch.autograd.grad(spoken, activations, create_graph=True)
        own = GradCam.combine(activations, gradient)
        seen, size = batch.paired[:, 0], batch.paired.shape[2:]
        own = functional.interpolate(own[:, None], size, mode="bilinear")[:, 0]
        distance = (_unit(own) - _unit(seen)).square().sum(dim=(1, 2))
        told = seen.flatten(1).any(dim=1) & (own.detach() > 0).flatten(1).any(dim=1)
        return {
            "cross_entropy": functional.cross_entropy(logits, batch.targets),
            "maps": self._weight * torch.where(told, distance, 0.0).mean(),
        }


def _unit(maps: Tensor) -> Tensor:
    return maps / (maps.square().sum(dim=(1, 2), keepdim=True) + 1e-12).sqrt()


def train_clone_with_maps(
    stolen: MapTheft, *, weight: float, recipe: CloneRecipe, seed: int
) -> nn.Module:
    """A clone of answers and maps, lambda above 0."""
    pixels = stolen.images / np.float32(255.0)
    network = build_clone(
        recipe,
        shape=(stolen.images.shape[1], *stolen.images.shape[2:]),
        classes=stolen.classes,
        normalisation=Normalisation(
            mean=tuple(map(float, pixels.mean(axis=(0, 2, 3)))),
            std=tuple(map(float, pixels.std(axis=(0, 2, 3)))),
        ),
        seed=seed,
    )
    shown = functional.interpolate(
        torch.from_numpy(stolen.maps)[:, None], stolen.images.shape[2:], mode="bilinear"
    )
    data = TrainingData(
        images=torch.from_numpy(stolen.images),
        targets=torch.from_numpy(stolen.targets),
        paired=(255.0 * shown).round().to(torch.uint8).expand(stolen.images.shape).contiguous(),
    )
    fit(Mirroring(network, weight), data, recipe.plan(len(stolen.images), seed))
    return network.eval()

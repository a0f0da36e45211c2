"""What a clone minimises that was told where the victim looked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.explain import RelevanceCam, Tap, cam_layer, interpreter_names
from models.simplex import top1
from models.training.objective import Batch, Objective

__all__ = ["MapMatching", "MapMatchingObjective", "as_pictures", "unit_maps"]

FLAT = 1e-6
"""Range of a map, relative to its largest magnitude, below which it shows nothing."""


@dataclass(frozen=True, slots=True, order=True)
class MapMatching:
    """How a clone is made to look where its victim looked.

    Attributes:
        weight: lambda, of the distance between maps; 0 learns from the answers alone.
        interpreter: how the clone is explained: ``grad-cam``, ``gradient-x-input`` or
            ``relevance-cam``. Best the victim's own.
        layer: of the clone, for the two that weigh activations; None is the last one before its
            final pooling.

    Raises:
        ValueError: a negative or infinite weight, or no such interpreter.
    """

    weight: float = 1.0
    interpreter: str = "grad-cam"
    layer: str | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight >= 0.0):
            raise ValueError(f"lambda must be a finite number >= 0, not {self.weight:g}")
        if self.interpreter not in interpreter_names():
            raise ValueError(
                f"interpreter must be one of {', '.join(interpreter_names())}, "
                f"not {self.interpreter!r}"
            )

    @property
    def name(self) -> str:
        """How reports call it."""
        if self.weight == 0.0:
            return "attribution(lambda=0)"
        layer = "" if self.layer is None else f", layer={self.layer}"
        return f"attribution(lambda={self.weight:g}, {self.interpreter}{layer})"


def unit_maps(maps: Tensor) -> Tensor:
    """Maps from zero upwards, of Frobenius norm 1; a flat one becomes all zeros.

    Services stretch each map to [0, 1], so the scale and the offset of a victim's are not known,
    and those of a clone's must not count: ``(I - min I) / ||I - min I||_F``.

    Args:
        maps: ``(B, h, w)``.

    Returns:
        ``(B, h, w)``, differentiable, flat maps included.
    """
    raised = maps - maps.amin(dim=(1, 2), keepdim=True)
    least = FLAT * maps.abs().amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)
    flat = raised.amax(dim=(1, 2), keepdim=True) <= least
    # Divided first: gradients are tiny numbers, and their squares would be none.
    scaled = raised / torch.where(flat, 1.0, raised.detach().amax(dim=(1, 2), keepdim=True))
    norm = torch.where(flat, 1.0, scaled.square().sum(dim=(1, 2), keepdim=True)).sqrt()
    return torch.where(flat, 0.0, scaled / norm)


def as_pictures(maps: NDArray[np.float32], shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Maps ``(N, h, w)`` as images ``(N, C, H, W)``, which are cropped and mirrored as images are.

    Each is stretched to 0..255 by itself and brought to the size of the images, bilinearly; the
    channels are copies. A flat map becomes black.
    """
    channels, height, width = shape
    raised = torch.from_numpy(maps - maps.min(axis=(1, 2), keepdims=True))
    top = raised.amax(dim=(1, 2), keepdim=True)
    flat = top[:, 0, 0].numpy() <= FLAT * np.abs(maps).max(axis=(1, 2))
    levels = _resized(255.0 * raised / top.clamp(min=1e-30), (height, width)).round()
    pictures = levels.clamp(0.0, 255.0).to(torch.uint8).numpy()
    pictures[flat] = 0
    return np.repeat(pictures[:, np.newaxis], channels, axis=1)


class MapMatchingObjective(Objective):
    """``CE(clone, victim) + lambda || I - I_A ||_F^2``, the mean over the batch.

    Equation 1 of the DeepDefense paper, after Milli et al. (2019). Both maps are compared at the
    size of the images and in the form of ``unit_maps``; what is explained is the victim's top-1. A
    victim's map that is flat says nothing and counts nothing. The batch carries the maps as
    ``paired`` images (``as_pictures``).

    Differentiated twice: the gradient of an explanation reaches the weights. For
    ``relevance-cam`` it does so through the activations; the relevance that weighs them is held
    fixed within a step, as its rules have no second derivative.

    Args:
        network: the clone.
        matching: lambda and the interpreter.

    Raises:
        ExplanationError: the clone has no such layer, or no rule for something above it.
    """

    kind: ClassVar[str] = "attribution"
    needs_paired: ClassVar[bool] = True
    mean_over_samples: ClassVar[bool] = True

    def __init__(self, network: nn.Module, matching: MapMatching) -> None:
        self._network = network
        self._matching = matching
        if matching.interpreter != "gradient-x-input":
            self._tap = Tap(network, cam_layer(network, matching.layer))

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """The one network."""
        return {"clone": self._network}

    def options(self) -> Mapping[str, bool | int | float | str]:
        """Lambda and the interpreter."""
        matching = self._matching
        return {
            "lambda": matching.weight,
            "interpreter": matching.interpreter,
            "layer": matching.layer or "",
        }

    def losses(self, batch: Batch) -> Mapping[str, Tensor]:
        """``cross_entropy`` and ``maps`` of ``batch``."""
        assert batch.paired is not None
        classes = batch.targets if batch.targets.ndim == 1 else top1(batch.targets)
        logits, maps = self._explained(batch.images, classes)
        seen = unit_maps(batch.paired[:, 0])
        told = seen.flatten(1).any(dim=1)
        own = unit_maps(_resized(maps, (seen.shape[1], seen.shape[2])))
        distance = (own - seen).square().sum(dim=(1, 2))
        return {
            "cross_entropy": functional.cross_entropy(logits, batch.targets),
            "maps": self._matching.weight * torch.where(told, distance, 0.0).mean(),
        }

    def _explained(self, images: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and maps ``(B, h, w)`` with a graph to the weights."""
        match self._matching.interpreter:
            case "gradient-x-input":
                pixels = images.detach().requires_grad_()
                logits = self._network(pixels)
                gradient = _gradient(logits, classes, pixels)
                return logits, (pixels.detach() * gradient).sum(dim=1)
            case "grad-cam":
                logits, activations = self._tap(images)
                weights = _gradient(logits, classes, activations).mean(dim=(2, 3), keepdim=True)
                return logits, (weights * activations).sum(dim=1).relu()
            case _:
                relevance = self._relevance(images, classes).mean(dim=(2, 3), keepdim=True)
                logits, activations = self._tap(images)
                return logits, (relevance * activations).sum(dim=1)

    def _relevance(self, images: Tensor, classes: Tensor) -> Tensor:
        """The relevance of activations, in evaluation mode and of weights that stand still."""
        trained = [weight for weight in self._network.parameters() if weight.requires_grad]
        was_training = self._network.training
        self._network.eval().requires_grad_(False)
        try:
            interpreter = RelevanceCam(self._network, self._matching.layer)
            return interpreter.relevance(images, classes)[1]
        finally:
            self._network.train(was_training)
            for weight in trained:
                weight.requires_grad_(True)


def _gradient(logits: Tensor, classes: Tensor, of: Tensor) -> Tensor:
    """``d z_y / d of``, differentiable again."""
    spoken = logits.gather(1, classes[:, None]).sum()
    (gradient,) = torch.autograd.grad(spoken, of, create_graph=True)
    return gradient


def _resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps ``(B, h, w)`` at another size, bilinearly."""
    if tuple(maps.shape[1:]) == size:
        return maps
    return functional.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]

"""Numbers that tell something about a gradient, and where each of them grows.

A gradient is kept as the tensors it comes as, one for each parameter: laying the millions of
numbers of a deep network end to end costs as much as a pass through it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.training.inner_product import inner_product

__all__ = ["CosineTo", "EuclideanNorm", "Gradient", "MeanAbsolute", "Measure", "Slope"]

Gradient = tuple[Tensor, ...]
"""One tensor for each parameter, in one order throughout."""

SMALLEST = 1e-8
"""Norms below this count as this in a cosine, as in torch's own."""


@dataclass(frozen=True, slots=True)
class Slope:
    """A measure of some gradient and its derivative by that gradient.

    Attributes:
        value: the measure, a scalar.
        direction: the derivative, up to its length.
        scale: its length, a scalar: the derivative is ``scale * direction``. Whatever is linear
            in the derivative can be scaled afterwards, when it is small.
    """

    value: Tensor
    direction: Gradient
    scale: Tensor


class Measure(ABC):
    """A scalar of a gradient."""

    @abstractmethod
    def value(self, gradient: Gradient) -> Tensor:
        """The measure, by operations that autograd can follow."""

    @abstractmethod
    def slope(self, gradient: Gradient) -> Slope:
        """The measure and its derivative in closed form, in one or two passes over ``gradient``."""


class MeanAbsolute(Measure):
    """``sum_p |g_p| / P``; its derivative is ``sign(g) / P``, zero where g is."""

    def value(self, gradient: Gradient) -> Tensor:
        """See the class."""
        total = torch.stack([part.abs().sum() for part in gradient]).sum()
        return total / _count(gradient)

    def slope(self, gradient: Gradient) -> Slope:
        """See the class."""
        total, count = nn.utils.get_total_norm(gradient, 1.0), _count(gradient)
        signs = tuple(part.sign() for part in gradient)
        return Slope(total / count, signs, total.new_tensor(1.0 / count))


class EuclideanNorm(Measure):
    """``||g||``; its derivative is ``g / ||g||``, and taken as zero where g is."""

    def value(self, gradient: Gradient) -> Tensor:
        """See the class."""
        flat = torch.cat([part.flatten() for part in gradient])
        norm: Tensor = torch.linalg.vector_norm(flat)
        return norm

    def slope(self, gradient: Gradient) -> Slope:
        """See the class."""
        norm = nn.utils.get_total_norm(gradient)
        return Slope(norm, gradient, torch.where(norm == 0.0, 0.0, 1.0 / norm))


class CosineTo(Measure):
    """``<g, w> / (||g|| ||w||)``; its derivative is ``(w - (<g, w> / ||g||^2) g) / (||g|| ||w||)``.

    Args:
        wanted: w.
    """

    def __init__(self, wanted: Gradient) -> None:
        self._wanted = wanted

    def value(self, gradient: Gradient) -> Tensor:
        """See the class."""
        inner = torch.stack(
            [(ours * theirs).sum() for ours, theirs in zip(gradient, self._wanted, strict=True)]
        ).sum()
        ours, theirs = EuclideanNorm().value(gradient), EuclideanNorm().value(self._wanted)
        return inner / (ours.clamp_min(SMALLEST) * theirs.clamp_min(SMALLEST))

    def slope(self, gradient: Gradient) -> Slope:
        """See the class."""
        product = inner_product(gradient, self._wanted)
        assert product is not None, "a gradient holds a tensor for every parameter"
        inner = product.to(gradient[0].dtype)
        ours = nn.utils.get_total_norm(gradient).clamp_min(SMALLEST)
        theirs = nn.utils.get_total_norm(self._wanted).clamp_min(SMALLEST)
        along = -inner / ours.square()
        scale = 1.0 / (ours * theirs)
        direction = tuple(
            torch.addcmul(wanted, part, along)
            for part, wanted in zip(gradient, self._wanted, strict=True)
        )
        return Slope(inner * scale, direction, scale)


def _count(gradient: Gradient) -> int:
    return sum(part.numel() for part in gradient)

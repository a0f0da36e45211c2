"""Gradient x Input: each pixel times the gradient of the class."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from models.explain.contract import Forward
from models.explain.gradient import GradientInterpreter

__all__ = ["GradientXInput", "gradient_x_input"]


def gradient_x_input(forward: Forward, images: Tensor, classes: Tensor) -> Tensor:
    """``sum_c x_c d z_y / d x_c``: signed, summed over the channels of the image.

    "Not Just a Black Box: Learning Important Features Through Propagating Activation Differences"
    (Shrikumar et al., 2016), of the logit z. Pixels are those in [0, 1]: the normalisation is part
    of the network. Functional, as ``grad_cam`` is.

    Args:
        forward: the network; see ``Forward``.
        images: ``(B, C, H, W)``.
        classes: ``(B,)`` int64, y.

    Returns:
        ``(B, H, W)``, signed.
    """

    def explained(pixels: Tensor) -> Tensor:
        return forward(pixels)[0].gather(1, classes[:, None]).sum()

    gradient: Tensor = torch.func.grad(explained)(images)
    return _weighed(images, gradient)


def _weighed(images: Tensor, gradient: Tensor) -> Tensor:
    return (images * gradient).sum(dim=1)


class GradientXInput(GradientInterpreter):
    """Gradient x Input of a network; the layer plays no part."""

    name: ClassVar[str] = "gradient-x-input"

    def __init__(self, network: nn.Module, layer: str | None = None) -> None:
        super().__init__(network, layer)

    def __call__(self, images: Tensor, classes: Tensor) -> Tensor:
        """Maps ``(B, H, W)``, signed; see ``gradient_x_input``."""
        return self.functional(self.network, images, classes)

    @property
    def place(self) -> None:
        """The image."""
        return None

    @staticmethod
    def combine(values: Tensor, gradient: Tensor) -> Tensor:
        """Maps ``(B, H, W)`` of images and the gradient by them."""
        return _weighed(values, gradient)

    def functional(
        self, call: Callable[[Tensor], Tensor], images: Tensor, classes: Tensor
    ) -> Tensor:
        """See ``gradient_x_input``."""

        def forward(images: Tensor, bump: Tensor | None = None) -> tuple[Tensor, Tensor]:
            del bump
            return call(images), images

        return gradient_x_input(forward, images, classes)

"""Grad-CAM: activations weighed by the mean gradient of the class."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from models.explain.contract import Forward
from models.explain.extent import Extent, extent_of_layer
from models.explain.gradient import GradientInterpreter
from models.explain.tap import Tap, cam_layer

__all__ = ["GradCam", "grad_cam"]


def grad_cam(forward: Forward, images: Tensor, classes: Tensor, *, channels: int) -> Tensor:
    """``relu(sum_k a_k A_k)`` with ``a_k`` the spatial mean of ``d z_y / d A_k``.

    "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization" (Selvaraju
    et al., ICCV 2017), equations 1 and 2, of the logit z as there. Functional: differentiable
    again with respect to whatever ``forward`` closes over, and usable under ``torch.func``.

    Args:
        forward: the network; see ``Forward``.
        images: ``(B, C, H, W)``.
        classes: ``(B,)`` int64, y.
        channels: N of the activations ``(B, N, h, w)``.

    Returns:
        ``(B, h, w)``, not negative.
    """

    def explained(bump: Tensor) -> tuple[Tensor, Tensor]:
        logits, activations = forward(images, bump)
        return logits.gather(1, classes[:, None]).sum(), activations

    # One number per channel, added everywhere in it: its gradient is the sum over positions.
    bump = torch.zeros(len(images), channels, 1, 1, dtype=images.dtype, device=images.device)
    gradient, activations = torch.func.grad(explained, has_aux=True)(bump)
    return _weighed(activations, gradient / (activations.shape[2] * activations.shape[3]))


def _weighed(activations: Tensor, weights: Tensor) -> Tensor:
    return (weights * activations).sum(dim=1).relu()


class GradCam(GradientInterpreter):
    """Grad-CAM of a network at ``layer``."""

    name: ClassVar[str] = "grad-cam"

    def __init__(self, network: nn.Module, layer: str | None = None) -> None:
        super().__init__(network, layer)
        self._place = cam_layer(network, layer)
        self._channels: int | None = None

    def __call__(self, images: Tensor, classes: Tensor) -> Tensor:
        """Maps ``(B, h, w)``, not negative; see ``grad_cam``."""
        return self.functional(self.network, images, classes)

    @property
    def place(self) -> nn.Module:
        """The layer."""
        return self._place

    @staticmethod
    def combine(values: Tensor, gradient: Tensor) -> Tensor:
        """Maps ``(B, h, w)`` of activations and the gradient by them."""
        return _weighed(values, gradient.mean(dim=(2, 3), keepdim=True))

    def functional(
        self, call: Callable[[Tensor], Tensor], images: Tensor, classes: Tensor
    ) -> Tensor:
        """See ``grad_cam``."""
        if self._channels is None:
            own = next(self.network.parameters()).dtype
            with torch.no_grad():
                seen = Tap(self.network, self._place)(images[:1].to(own))[1]
            self._channels = seen.shape[1]
        return grad_cam(Tap(call, self._place), images, classes, channels=self._channels)

    def extent(self, shape: tuple[int, int, int]) -> Extent:
        """What the positions of the layer stand for."""
        return extent_of_layer(self.network, self._place, shape)

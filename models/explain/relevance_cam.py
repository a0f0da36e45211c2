"""Relevance-CAM: activations weighed by contrastive layer-wise relevance."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from models.explain.contract import Interpreter
from models.explain.extent import Extent, extent_of_layer
from models.explain.relevance import RelevanceRules
from models.explain.tap import Tap, cam_layer

__all__ = ["RelevanceCam"]


class RelevanceCam(Interpreter):
    """``sum_k r_k A_k`` with r_k the spatial mean of the relevance of activation map k.

    "Relevance-CAM: Your Model Already Knows Where to Look" (Lee et al., CVPR 2021), section 3. The
    relevance starts at 1 for the class and at -1/K for the others, as the authors' code has it, and
    is propagated down to the layer by the rules of ``RelevanceRules``. Not cut off at zero. The
    rules hold at any layer of any of our architectures, a residual stage in the middle included.
    """

    name: ClassVar[str] = "relevance-cam"

    def __init__(self, network: nn.Module, layer: str | None = None) -> None:
        super().__init__(network, layer)
        self._tap = Tap(network, cam_layer(network, layer))

    def __call__(self, images: Tensor, classes: Tensor) -> Tensor:
        """Maps ``(B, h, w)``, signed.

        Raises:
            ExplanationError: something above the layer has no rule.
        """
        activations, relevance = self.relevance(images, classes)
        return (relevance.mean(dim=(2, 3), keepdim=True) * activations).sum(dim=1)

    def extent(self, shape: tuple[int, int, int]) -> Extent:
        """What the positions of the layer stand for."""
        return extent_of_layer(self.network, cam_layer(self.network, self.layer), shape)

    def relevance(self, images: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Activations and their relevance, both ``(B, N, h, w)``."""
        moved: list[Tensor] = []

        def grounded(activations: Tensor) -> Tensor:
            moved.append(activations.detach().requires_grad_())
            return moved[0]

        with torch.enable_grad(), RelevanceRules():
            logits, activations = self._tap.rerouted(images, grounded)
        start = torch.full_like(logits, -1.0 / logits.shape[1])
        start.scatter_(1, classes[:, None], 1.0)
        (relevance,) = torch.autograd.grad(logits, moved[0], start)
        return activations.detach(), relevance

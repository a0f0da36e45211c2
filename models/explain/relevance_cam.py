"""Relevance-CAM: activations weighed by contrastive layer-wise relevance."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from models.explain.extent import Extent, extent_of_layer
from models.explain.functional import FunctionalInterpreter
from models.explain.relevance import RelevanceRules
from models.explain.tap import Tap, cam_layer

__all__ = ["RelevanceCam"]


class RelevanceCam(FunctionalInterpreter):
    """``sum_k r_k A_k`` with r_k the spatial mean of the relevance of activation map k.

    "Relevance-CAM: Your Model Already Knows Where to Look" (Lee et al., CVPR 2021), section 3. The
    relevance starts at 1 for the class and at -1/K for the others, as the authors' code has it, and
    is propagated down to the layer by the rules of ``RelevanceRules``. Not cut off at zero. The
    rules hold at any layer of any of our architectures, a residual stage in the middle included.
    """

    name: ClassVar[str] = "relevance-cam"

    def __init__(self, network: nn.Module, layer: str | None = None) -> None:
        super().__init__(network, layer)
        self._place = cam_layer(network, layer)

    def __call__(self, images: Tensor, classes: Tensor) -> Tensor:
        """Maps ``(B, h, w)``, signed.

        Raises:
            ExplanationError: something above the layer has no rule.
        """
        return self.functional(self.network, images, classes)

    @property
    def place(self) -> nn.Module:
        """The layer."""
        return self._place

    def functional(
        self, call: Callable[[Tensor], Tensor], images: Tensor, classes: Tensor
    ) -> Tensor:
        """See ``FunctionalInterpreter``."""
        activations, relevance = self.relevance(images, classes, call=call)
        return (relevance.mean(dim=(2, 3), keepdim=True) * activations).sum(dim=1)

    def extent(self, shape: tuple[int, int, int]) -> Extent:
        """What the positions of the layer stand for."""
        return extent_of_layer(self.network, self._place, shape)

    def relevance(
        self, images: Tensor, classes: Tensor, *, call: Callable[[Tensor], Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Activations and their relevance, both ``(B, N, h, w)``; ``call`` as in ``functional``."""
        rules = RelevanceRules()
        moved: list[Tensor] = []

        def watched(activations: Tensor) -> Tensor:
            moved.append(activations.clone())
            rules.watch(moved[0])
            return moved[0]

        tap = Tap(self.network if call is None else call, self._place)
        with rules:
            logits, activations = tap.rerouted(images, watched)
        others = torch.full_like(logits, -1.0 / logits.shape[1])
        start = others.scatter(1, classes[:, None], 1.0)
        return activations, rules.propagated(logits, start, moved[0])

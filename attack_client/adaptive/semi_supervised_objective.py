"""Losses on images without answers, beside the loss on those with."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from attack_client.errors import AdaptationError
from models.training.augmentation import augmented
from models.training.objective import Batch, Objective
from models.training.order import generator

__all__ = ["PseudoLabels", "Rotations"]


class _Beside(Objective):
    """An objective, and one more loss on the images of the batch that carry no answer."""

    needs_ood: ClassVar[bool] = True

    def __init__(self, inner: Objective, network: nn.Module, *, weight: float) -> None:
        self._inner = inner
        self._network = network
        self._weight = weight

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """Those of the other objective."""
        return self._inner.networks

    def options(self) -> Mapping[str, bool | int | float | str]:
        """Those of the other objective, and the weight."""
        return {**self._inner.options(), "inner": self._inner.kind, "weight": self._weight}

    def losses(self, batch: Batch) -> Mapping[str, Tensor]:
        """Those of the other objective, and ``unlabelled``."""
        assert batch.ood is not None
        term = self.unlabelled(batch.ood, batch.done)
        return {**self._inner.losses(batch), "unlabelled": self._weight * term}

    @abstractmethod
    def unlabelled(self, images: Tensor, done: float) -> Tensor:
        """A scalar, of ``images`` ``(B, C, H, W)`` at ``done`` epochs."""


class Rotations(_Beside):
    """By how many quarter turns an image was turned: Zhai et al., S4L (ICCV 2019), section 3.1.

    A linear layer of its own reads the answer off the features that the clone's last linear layer
    reads classes off. A quarter of the images of a batch is turned by each number of turns.

    Args:
        inner: what else the clone minimises.
        network: the clone.
        weight: of this loss.
        seed: of the layer's weights.

    Raises:
        AdaptationError: the clone has no linear layer.
    """

    kind: ClassVar[str] = "rotations"

    def __init__(self, inner: Objective, network: nn.Module, *, weight: float, seed: int) -> None:
        super().__init__(inner, network, weight=weight)
        linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
        if not linear:
            raise AdaptationError("rotation needs a clone whose last layer is linear")
        self._last = linear[-1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._head = nn.Linear(self._last.in_features, 4)

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """Those of the other objective, and the layer that tells turns apart."""
        return {**self._inner.networks, "rotation": self._head}

    def unlabelled(self, images: Tensor, done: float) -> Tensor:
        """Cross-entropy of the number of turns."""
        del done
        turns = torch.arange(len(images), device=images.device) % 4
        turned = images.clone()
        for turn in range(1, 4):
            turned[turn::4] = torch.rot90(images[turn::4], turn, dims=(2, 3))
        seen: list[Tensor] = []

        def keep(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            del module
            seen.append(inputs[0])

        handle = self._last.register_forward_pre_hook(keep)
        try:
            self._network(turned)
        finally:
            handle.remove()
        return functional.cross_entropy(self._head(seen[-1].flatten(start_dim=1)), turns)


class PseudoLabels(_Beside):
    """The clone's own confident labels, learnt on moved copies: Sohn et al., FixMatch (2020).

    The weak view is the image as it is, the strong one the image moved by up to two pixels.

    Args:
        inner: what else the clone minimises.
        network: the clone.
        weight: of this loss.
        threshold: least top probability of a label that is believed.
        seed: of the movements.
    """

    kind: ClassVar[str] = "pseudo-labels"

    def __init__(
        self, inner: Objective, network: nn.Module, *, weight: float, threshold: float, seed: int
    ) -> None:
        super().__init__(inner, network, weight=weight)
        self._threshold = threshold
        self._seed = seed

    def options(self) -> Mapping[str, bool | int | float | str]:
        """With the threshold."""
        return {**super().options(), "threshold": self._threshold}

    def unlabelled(self, images: Tensor, done: float) -> Tensor:
        """Cross-entropy with the labels that are believed; the others count as zero."""
        with torch.no_grad():
            top, labels = self._network(images).softmax(dim=1).max(dim=1)
        draws = generator(self._seed, "pseudo-labels", round(done * 1e6))
        moved = self._network(augmented(images, "shift", draws))
        losses = functional.cross_entropy(moved, labels, reduction="none")
        believed: Tensor = losses * (top >= self._threshold)
        return believed.mean()

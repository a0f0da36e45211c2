"""What an interpreter is: a batched map from images and classes to attribution maps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Protocol

from torch import Tensor, nn

from models.explain.extent import Extent

__all__ = ["Forward", "Interpreter"]


class Forward(Protocol):
    """A forward pass that shows, and lets one move, the activations of one layer.

    It is a plain function of tensors: whoever optimises weights per query closes over them, and
    ``torch.func`` may differentiate, batch and nest it.
    """

    def __call__(self, images: Tensor, bump: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits and activations.

        Args:
            images: ``(B, C, H, W)`` in [0, 1].
            bump: added to the activations on their way up; broadcast against them.

        Returns:
            Logits ``(B, K)``, and the activations ``(B, N, h, w)`` before ``bump`` was added.
        """
        ...


class Interpreter(ABC):
    """Makes maps of one network; holds no state of any query.

    Args:
        network: maps images ``(B, C, H, W)`` in [0, 1] to logits ``(B, K)``, in evaluation mode.
            Its weights, buffers, flags and hooks are after every call what they were before.
        layer: dotted name of the layer whose activations are weighed; None: the last one before
            the final pooling. Interpreters that look at pixels have no use for it.

    Raises:
        ExplanationError: the network has no such layer.
    """

    name: ClassVar[str]
    """As an operator writes it."""

    def __init__(self, network: nn.Module, layer: str | None = None) -> None:
        self.network = network
        self.layer = layer

    @abstractmethod
    def __call__(self, images: Tensor, classes: Tensor) -> Tensor:
        """Maps ``(B, h, w)`` float32 at the interpreter's own resolution, as its source has them.

        Args:
            images: ``(B, C, H, W)`` in [0, 1].
            classes: ``(B,)`` int64, the class that each map explains.
        """

    def extent(self, shape: tuple[int, int, int]) -> Extent:
        """Which part of images ``(C, H, W)`` a map covers; all of it, if not overridden."""
        return Extent(0.0, 0.0, float(shape[1]), float(shape[2]))

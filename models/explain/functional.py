"""Interpreters whose map is a function of the forward pass that one gives them.

What is searched for with maps in its loss has to differentiate them by weights, for many queries
side by side.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

from torch import Tensor, nn

from models.explain.contract import Interpreter

__all__ = ["FunctionalInterpreter"]


class FunctionalInterpreter(Interpreter):
    """An interpreter that explains its network with other weights just as well."""

    @property
    @abstractmethod
    def place(self) -> nn.Module | None:
        """The layer whose output is looked at; None where that is the image."""

    @abstractmethod
    def functional(
        self, call: Callable[[Tensor], Tensor], images: Tensor, classes: Tensor
    ) -> Tensor:
        """Maps ``(B, h, w)`` as a function that ``torch.func`` may differentiate, batch and nest.

        Args:
            call: runs this interpreter's network, with its own weights or with others: images
                ``(B, C, H, W)`` to logits ``(B, K)``.
            images: ``(B, C, H, W)``.
            classes: ``(B,)`` int64.
        """

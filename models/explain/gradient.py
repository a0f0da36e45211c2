"""Interpreters that look at one place: the values there, and the gradient of the class by them.

What is searched for with maps in its loss has to differentiate them by weights, for many queries
side by side. Both ways of doing that start here: a functional map for ``torch.func``, and the last
step of it for who has values and gradient at hand.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

from torch import Tensor, nn

from models.explain.contract import Interpreter

__all__ = ["GradientInterpreter"]


class GradientInterpreter(Interpreter):
    """An interpreter whose map is made of the values at ``place`` and ``d z_y`` by them."""

    @property
    @abstractmethod
    def place(self) -> nn.Module | None:
        """The layer whose output is looked at; None where that is the image."""

    @staticmethod
    @abstractmethod
    def combine(values: Tensor, gradient: Tensor) -> Tensor:
        """Maps ``(B, h, w)`` of values at the place and the gradient there, ``(B, N, h, w)`` both.

        Plain arithmetic: differentiable by whatever values and gradient depend on.
        """

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

"""Interpreters that look at one place: the values there, and the gradient of the class by them.

Who has values and gradient at hand needs the last step only, and so no second pass.
"""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from models.explain.functional import FunctionalInterpreter

__all__ = ["GradientInterpreter"]


class GradientInterpreter(FunctionalInterpreter):
    """An interpreter whose map is made of the values at ``place`` and ``d z_y`` by them."""

    @staticmethod
    @abstractmethod
    def combine(values: Tensor, gradient: Tensor) -> Tensor:
        """Maps ``(B, h, w)`` of values at the place and the gradient there, ``(B, N, h, w)`` both.

        Plain arithmetic: differentiable by whatever values and gradient depend on.
        """

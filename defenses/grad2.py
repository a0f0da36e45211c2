"""GRAD2: answers that redirect the gradient of a thief who trains on them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from defenses.contract import Answers, Queries
from defenses.errors import OptionError
from defenses.gradient_defense import GradientDefense, Jacobian
from defenses.redirection import redirected
from defenses.surrogate import along_ones, imagined, returned_products

__all__ = ["Grad2", "Target"]

Target = Literal["anti-gradient", "all-ones"]
"""Where the gradient shall point: away from where v would send it, or along (1, ..., 1)."""


class Grad2(GradientDefense):
    """Maximises the inner product of the thief's gradient with a direction of our choice.

    ``max <G^T v', z>`` over the answers v' of the simplex within an L1 distance epsilon of v:
    "How to Steer Your Adversary: Targeted and Efficient Model Stealing Defenses with Gradient
    Redirection" (Mazeika, Li and Forsyth, ICML 2022). The problem is linear in v', with costs
    ``-G z`` per class, and solved exactly (see ``redirected``). Its targets:

    - ``anti-gradient``: ``z = -G^T v``, the least inner product with the gradient that v itself
      would cause. The costs are ``G G^T v``. The authors' code takes the mean gradient of a batch
      of queries for z; here it is the query's own: no answer may depend on who else asks.
    - ``all-ones``: ``z = (1, ..., 1)``, every weight of the clone pushed up. The costs are
      ``-G 1``. In the last layer alone ``G 1`` is 0 for every class, so this needs
      ``jacobian="full"``.

    With the uniform surrogate and ``anti-gradient``, ``G G^T v`` ranks classes as v does: mass
    goes from the likeliest classes to the least likely one.

    The top-1 may change.

    Args:
        epsilon: the budget, an L1 distance in [0, 2].
        surrogate: stands in for the clone (see ``GradientDefense``); the paper trains one.
        target: ``anti-gradient`` or ``all-ones``.
        jacobian: ``last_layer``, in closed form; or ``full``, gradients of every weight, by
            differentiating twice (the paper's form).

    Raises:
        OptionError: an option is out of range, ``full`` without a network, or ``all-ones`` without
            ``full``.
    """

    kind: ClassVar[str] = "grad2"
    keeps_top1 = False

    def __init__(
        self,
        *,
        epsilon: float,
        surrogate: nn.Module | None = None,
        target: Target = "anti-gradient",
        jacobian: Jacobian = "last_layer",
    ) -> None:
        super().__init__(surrogate=surrogate, epsilon=epsilon, jacobian=jacobian)
        if target not in ("anti-gradient", "all-ones"):
            raise OptionError("target", f"must be anti-gradient or all-ones, not {target!r}")
        if target == "all-ones" and jacobian != "full":
            raise OptionError(
                "target", "all-ones is the same for every class of a last layer: use jacobian: full"
            )
        self.target: Target = target

    def apply(self, queries: Queries, answers: Answers) -> Answers:
        """Rows ``(B, K)`` at an L1 distance of at most epsilon."""
        if answers.probabilities.shape[0] == 0:
            return answers
        v = answers.probabilities.to(torch.float64)
        moved = redirected(v, self._costs(queries, v), self.epsilon)
        return replace(answers, probabilities=moved.to(torch.float32))

    def options(self) -> dict[str, Any]:
        """``epsilon``, ``surrogate``, ``target`` and ``jacobian``."""
        return {**super().options(), "target": self.target}

    def _costs(self, queries: Queries, v: Tensor) -> Tensor:
        if self._surrogate is None or self.jacobian == "last_layer":
            gradients = imagined(self._surrogate, queries.images, v.shape[1], all_weights=False)
            return gradients.times(v)
        if self.target == "all-ones":
            return -along_ones(self._surrogate, queries.images, v.shape[1])
        return returned_products(self._surrogate, queries.images, v)

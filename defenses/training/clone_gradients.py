"""Losses on the gradient that a thief's clone would receive, as a function of what a victim says.

With a frozen clone of parameters theta and logits ``z_C``, a thief minimises ``L(z_C, z_V)``. His
gradient ``g = J^T r``, with ``J = d z_C / d theta`` and ``r = dL / d z_C``, depends on the victim's
logits ``z_V`` through ``r`` alone. The derivative of a number ``m(g)`` is therefore

    d m / d z_V = d <r(z_C, z_V), t> / d z_V     with     t = J u,    u = dm / dg,

one backward and one forward-mode pass through the clone and no second-order graph. It is exact,
for any layers that torch differentiates forward, and is handed to autograd as an external gradient
on the victim's logits.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call

from defenses.training.gradient_measures import Gradient, Measure
from defenses.training.shared_forward import Remembering, Replaying
from models.errors import TrainingError

__all__ = ["ClonePass", "Theft", "of_gradient"]

Theft = Callable[[Tensor, Tensor], Tensor]
"""What a thief minimises: a scalar of the clone's and the victim's logits, each ``(B, K)``."""


class ClonePass:
    """One forward pass of a frozen clone, shared by everything that is asked of it.

    Neither its parameters nor its buffers change, provided that it is in evaluation mode.

    Args:
        clone: in evaluation mode, on the device of ``images``.
        images: ``(B, C, H, W)`` in [0, 1].

    Attributes:
        logits: ``(B, K)``, without a graph.
    """

    def __init__(self, clone: nn.Module, images: Tensor) -> None:
        self._clone = clone
        self._images = images
        self._parameters = {
            name: parameter.detach().requires_grad_()
            for name, parameter in clone.named_parameters()
        }
        with torch.enable_grad(), Remembering() as remembered:
            self._logits: Tensor = functional_call(clone, self._parameters, (images,))
        self._kept = remembered.kept if remembered.intact else None
        self.logits = self._logits.detach()

    def pulled_back(self, cotangents: Tensor) -> Gradient:
        """``J^T r``: the gradient of the loss whose derivative by the logits is ``r``."""
        return torch.autograd.grad(
            self._logits,
            self._wanted(),
            cotangents,
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )

    def gradient(self, loss: Callable[[Tensor], Tensor]) -> Gradient:
        """The gradient of a loss of the logits, itself differentiable (second order)."""
        return torch.autograd.grad(
            loss(self._logits),
            self._wanted(),
            create_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )

    def pushed_forward(self, direction: Gradient) -> Tensor:
        """``J u``: how the logits ``(B, K)`` change as the parameters move along ``u``.

        Raises:
            TrainingError: torch has no forward-mode derivative of some layer.
        """
        _load_forward_rules()
        with torch.no_grad(), forward_ad.dual_level():
            moving: dict[str, Tensor] = {
                name: forward_ad.make_dual(  # type: ignore[no-untyped-call]
                    parameter.detach(), piece
                )
                for (name, parameter), piece in zip(
                    self._parameters.items(), direction, strict=True
                )
            }
            try:
                with nullcontext() if self._kept is None else Replaying(self._kept):
                    moved = functional_call(self._clone, moving, (self._images,))
            except NotImplementedError as error:
                raise TrainingError(
                    "a layer of the clone has no forward-mode derivative in torch "
                    f"({str(error).partition(' because')[0]}): set the option second_order"
                ) from error
            tangent: Tensor | None = forward_ad.unpack_dual(  # type: ignore[no-untyped-call]
                moved
            ).tangent
        return torch.zeros_like(self.logits) if tangent is None else tangent

    def _wanted(self) -> tuple[Tensor, ...]:
        return tuple(self._parameters.values())


def of_gradient(
    measure: Measure, clone: ClonePass, said: Tensor, theft: Theft, *, second_order: bool
) -> Tensor:
    """``measure`` of the gradient that a thief who is told ``said`` would follow.

    Args:
        measure: what of the gradient is of interest.
        clone: a forward pass of the clone on the images that ``said`` is about.
        said: the victim's logits ``(B, K)``, with a graph.
        theft: what the thief minimises.
        second_order: differentiate twice through the clone instead of once forward and once
            backward: the same number and gradient, at the cost of a graph of the backward pass.

    Returns:
        A scalar whose backward pass reaches whatever ``said`` depends on, and nothing else.
    """
    answers = said.detach().requires_grad_()
    if second_order:
        value = measure.value(clone.gradient(lambda logits: theft(logits, answers)))
        (gradient,) = torch.autograd.grad(value, answers)
        return _external(value.detach(), said, gradient)

    logits = clone.logits.detach().requires_grad_()
    with torch.enable_grad():
        (pull,) = torch.autograd.grad(theft(logits, answers), logits, create_graph=True)
    slope = measure.slope(clone.pulled_back(pull.detach()))
    tangent = slope.scale * clone.pushed_forward(slope.direction)
    (gradient,) = torch.autograd.grad(pull, answers, tangent)
    return _external(slope.value, said, gradient)


@cache
def _load_forward_rules() -> None:
    """On first use torch compiles some rules, and warns that its own compiler is deprecated."""
    with warnings.catch_warnings(), forward_ad.dual_level():
        warnings.simplefilter("ignore", FutureWarning)
        forward_ad.make_dual(torch.zeros(1), torch.zeros(1))  # type: ignore[no-untyped-call]


def _external(value: Tensor, at: Tensor, gradient: Tensor) -> Tensor:
    """A scalar equal to ``value`` whose derivative by ``at`` is ``gradient``.

    Where ``gradient`` is not finite the scalar is NaN, so that the loop stops there.
    """
    return value + ((at - at.detach()) * gradient).sum()

"""Numbers that are no longer numbers, caught where they first appear."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn.utils import get_total_norm

from models.errors import NotFiniteError
from models.training.objective import Batch, Objective

__all__ = ["require_finite_gradients", "require_finite_losses", "require_finite_weights"]

ADVICE = "try a lower learning rate or clip_norm"


def require_finite_losses(losses: Mapping[str, float], epoch: int, step: int) -> None:
    """Refuse a loss that is NaN or infinite.

    Raises:
        NotFiniteError: names the loss, the epoch and the step.
    """
    for name, value in losses.items():
        if not math.isfinite(value):
            raise NotFiniteError(
                f"the loss {name!r} became {value} in epoch {epoch}, step {step}: {ADVICE}"
            )


def require_finite_gradients(
    objective: Objective, batch: Batch, parameters: Sequence[nn.Parameter], epoch: int, step: int
) -> None:
    """Refuse gradients that are NaN or infinite although the losses are not.

    One number is read from the device. Only where it tells of trouble are the losses computed
    once more, to see which of them it comes from.

    Args:
        objective: whose losses the gradients are of.
        batch: that they were computed on.
        parameters: with their ``.grad``.
        epoch: from 1.
        step: from 1.

    Raises:
        NotFiniteError: names the loss, the epoch and the step.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    # The largest entry: a sum of squares overflows long before a gradient does.
    if math.isfinite(float(get_total_norm(gradients, norm_type=math.inf))):
        return
    culprit = "the gradient"
    losses = objective.losses(batch)
    for left, (name, loss) in zip(reversed(range(len(losses))), losses.items(), strict=True):
        found = torch.autograd.grad(loss, parameters, retain_graph=left > 0, allow_unused=True)
        if not all(bool(g.isfinite().all()) for g in found if g is not None):
            culprit = f"the gradient of the loss {name!r}"
            break
    raise NotFiniteError(
        f"{culprit} is not finite in epoch {epoch}, step {step}, though the loss is: {ADVICE}"
    )


def require_finite_weights(networks: Mapping[str, nn.Module], epoch: int) -> None:
    """Refuse to go on, and to save, once weights or running statistics are lost.

    The losses of the last step were finite; what the step did to the weights shows only here.

    Raises:
        NotFiniteError: names the tensor, its network and the epoch.
    """
    for role, network in networks.items():
        for name, value in network.state_dict().items():
            if value.is_floating_point() and not value.isfinite().all():
                raise NotFiniteError(
                    f"{name} of the {role} is no longer finite after epoch {epoch}: {ADVICE}"
                )

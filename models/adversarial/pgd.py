"""Projected gradient descent: images changed a little until a network gets them wrong.

Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["pgd"]


def pgd(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    start: Tensor,
    epsilon: float,
    step: float,
    iterations: int,
) -> Tensor:
    """Untargeted PGD in the maximum norm: what becomes of an image depends on itself alone.

    Args:
        network: maps ``(B, C, H, W)`` in [0, 1] to logits. It is attacked in evaluation mode, and
            its mode is put back afterwards.
        images: ``(B, C, H, W)`` in [0, 1].
        labels: the true ones, ``(B,)`` int64.
        start: first perturbation ``(B, C, H, W)``, in [-epsilon, epsilon]; zeros for none.
        epsilon: bound on the change of a pixel, in units of the full range.
        step: change of each pixel per iteration, in the same units.
        iterations: 0 or more.

    Returns:
        ``(B, C, H, W)`` within ``epsilon`` of ``images`` and within [0, 1], without a graph.
    """
    lowest, highest = (images - epsilon).clamp(min=0.0), (images + epsilon).clamp(max=1.0)
    found = (images + start).clamp(lowest, highest).detach()
    was_training = network.training
    network.eval()
    try:
        for _ in range(iterations):
            found.requires_grad_()
            # The sum, so that an image's gradient does not shrink with the size of the batch.
            loss = functional.cross_entropy(network(found), labels, reduction="sum")
            (uphill,) = torch.autograd.grad(loss, found)
            found = (found.detach() + step * uphill.sign()).clamp(lowest, highest)
    finally:
        network.train(was_training)
    return found.detach()

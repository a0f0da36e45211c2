"""The exponential predictive divergence (EPD) of Adversarial Sparse Teacher.

Yilmaz and Keles, "Adversarial Sparse Teacher: Defense Against Distillation-Based Model Stealing
Attacks Using Adversarial Examples", 2024, equation 4; what follows from it is ours.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

__all__ = ["Reduction", "epd"]

Reduction = Literal["sum", "mean"]


def epd(prediction: Tensor, target: Tensor, reduction: Reduction = "sum") -> Tensor:
    """``sum_k exp(p_k) (p_k - q_k)``, the mean over the batch.

    The paper leaves the reduction over classes open; a mean would undo the weight that it gives
    the term. In spite of its name this is no divergence: it is 0 at ``p = q``, but less elsewhere,
    and may be negative. For a fixed q it is strictly convex in p, and on the simplex least where
    ``exp(p_k) (1 + p_k - q_k)`` is the same for all k: about half-way between q and uniform. That
    is where its high entropies come from.

    Args:
        prediction: p, ``(B, K)`` on the simplex.
        target: q, ``(B, K)`` on the simplex.
        reduction: over the classes: the ``sum``, or their ``mean``, which is 1/K of it.
    """
    each = prediction.exp() * (prediction - target)
    return each.sum(dim=1).mean() if reduction == "sum" else each.mean()

"""The exponential predictive divergence (EPD) of Adversarial Sparse Teacher.

Yilmaz and Keles, "Adversarial Sparse Teacher: Defense Against Distillation-Based Model Stealing
Attacks Using Adversarial Examples", 2024, equation 4; what follows from it is ours.
"""

from __future__ import annotations

from torch import Tensor

__all__ = ["epd"]


def epd(prediction: Tensor, target: Tensor) -> Tensor:
    """``sum_k exp(p_k) (p_k - q_k)``, the mean over the batch.

    The paper leaves the reduction open; a mean over classes would undo the weight that it gives
    the term. In spite of its name this is no divergence: it is 0 at ``p = q``, but less elsewhere,
    and may be negative. For a fixed q it is strictly convex in p, and on the simplex least where
    ``exp(p_k) (1 + p_k - q_k)`` is the same for all k: about half-way between q and uniform. That
    is where its high entropies come from.

    Args:
        prediction: p, ``(B, K)`` on the simplex.
        target: q, ``(B, K)`` on the simplex.
    """
    return (prediction.exp() * (prediction - target)).sum(dim=1).mean()

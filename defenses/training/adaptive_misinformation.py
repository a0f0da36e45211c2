"""Adaptive Misinformation: a victim that knows what it knows, and a network that misleads.

Kariyappa and Qureshi, "Defending Against Model Stealing Attacks With Adaptive Misinformation",
CVPR 2020, section 4; terms and reductions as in their published training step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from defenses.training.option_ranges import weight
from models.training.objective import Batch, Objective

__all__ = ["AdaptiveMisinformation", "reverse_cross_entropy", "uniform_cross_entropy"]

EPSILON = 1e-7


def uniform_cross_entropy(logits: Tensor) -> Tensor:
    """Cross-entropy to the uniform distribution, the term of outlier exposure.

    ``logsumexp(z) - mean_k z_k``; least, ``log K``, where all logits are equal.

    Args:
        logits: ``(B, K)``.

    Returns:
        ``(B,)``.
    """
    return torch.logsumexp(logits, dim=1) - logits.mean(dim=1)


def reverse_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """``-log(1 - p_y + 1e-7)`` with ``p = softmax(z)``: small where ``labels`` are avoided.

    The authors feed ``log(1 - p)`` to a cross-entropy; that adds ``log(K - 1)``, a constant.

    Args:
        logits: ``(B, K)``.
        labels: ``(B,)`` int64, the classes to avoid.

    Returns:
        ``(B,)``, between 0 and ``-log(1e-7)``, about 16.1.
    """
    avoided = logits.softmax(dim=1).gather(1, labels[:, None]).squeeze(1)
    return -torch.log(1.0 - avoided + EPSILON)


class AdaptiveMisinformation(Objective):
    """Trains the victim f and the misinformation network f^ of the same architecture together.

    In- and out-of-distribution images go through each network in one forward pass, so that batch
    normalisation sees the mix.

    - f: cross-entropy on images, and ``lambda_oe`` times cross-entropy to uniform on strangers, so
      that a confident answer of f means that the image is of its own kind;
    - f^: reverse cross-entropy, against the true label on images and against f's own top-1 on
      strangers, averaged over both.

    The networks share no parameter: neither's gradient depends on the other's, apart from
    ``clip_norm``, which bounds the two together.

    Args:
        victim: f.
        misinformation: f^.
        lambda_oe: weight of outlier exposure, the paper's lambda; 0 or more.

    Raises:
        OptionError: ``lambda_oe`` is out of range.
    """

    kind: ClassVar[str] = "am"
    mixed_precision: ClassVar[bool] = True
    mean_over_samples: ClassVar[bool] = True
    needs_ood: ClassVar[bool] = True

    def __init__(
        self, victim: nn.Module, misinformation: nn.Module, *, lambda_oe: float = 1.0
    ) -> None:
        self._victim = victim
        self._misinformation = misinformation
        self._lambda_oe = weight("lambda_oe", lambda_oe)

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """``victim`` and ``misinformation``."""
        return {"victim": self._victim, "misinformation": self._misinformation}

    def options(self) -> Mapping[str, bool | int | float | str]:
        """``lambda_oe``."""
        return {"lambda_oe": self._lambda_oe}

    def losses(self, batch: Batch) -> Mapping[str, Tensor]:
        """``cross_entropy`` and ``outlier_exposure`` of the victim, ``misinformation`` of f^."""
        assert batch.ood is not None, "the loop supplies what needs_ood asks for"
        count = len(batch.images)
        images = torch.cat([batch.images, batch.ood])
        known, strange = self._victim(images).tensor_split([count])
        wanted = batch.targets
        labels = wanted if wanted.ndim == 1 else wanted.argmax(dim=1)
        avoided = torch.cat([labels, strange.detach().argmax(dim=1)])
        misled = self._misinformation(images)
        return {
            "cross_entropy": functional.cross_entropy(known, wanted),
            "outlier_exposure": self._lambda_oe * uniform_cross_entropy(strange).mean(),
            "misinformation": reverse_cross_entropy(misled, avoided).mean(),
        }

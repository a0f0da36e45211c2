"""Outlier exposure alone: the control that a defense trained against strangers must beat.

Hendrycks, Mazeika and Dietterich, "Deep Anomaly Detection with Outlier Exposure", ICLR 2019.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from defenses.training.adaptive_misinformation import uniform_cross_entropy
from defenses.training.option_ranges import weight
from defenses.training.two_streams import OodBatchNorm, check_ood_bn, logits_of_both
from models.training.objective import Batch, Objective

__all__ = ["OutlierExposure"]


class OutlierExposure(Objective):
    """Cross-entropy on images, and ``lambda_oe`` times cross-entropy to uniform on strangers.

    This is the victim of Adaptive Misinformation without its misinformation, and what
    Isolation and Induction would be if a thief's gradients played no part in it.

    Args:
        victim: the network to train.
        lambda_oe: the paper's lambda, 0 or more (its image experiments use 0.5; Adaptive
            Misinformation uses 1).
        ood_bn: ``separate``, ``concatenated`` (the authors' form) or ``frozen``; see
            ``OodBatchNorm``.

    Raises:
        OptionError: ``lambda_oe`` or ``ood_bn`` is out of range.
    """

    kind: ClassVar[str] = "outlier-exposure"
    mixed_precision: ClassVar[bool] = True
    mean_over_samples: ClassVar[bool] = True
    needs_ood: ClassVar[bool] = True

    def __init__(
        self,
        victim: nn.Module,
        *,
        lambda_oe: float = 1.0,
        ood_bn: OodBatchNorm = "concatenated",
    ) -> None:
        self._victim = victim
        self._lambda_oe = weight("lambda_oe", lambda_oe)
        self._ood_bn = check_ood_bn(ood_bn)

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """``victim``."""
        return {"victim": self._victim}

    def options(self) -> Mapping[str, bool | int | float | str]:
        """``lambda_oe`` and ``ood_bn``."""
        return {"lambda_oe": self._lambda_oe, "ood_bn": self._ood_bn}

    def losses(self, batch: Batch) -> Mapping[str, Tensor]:
        """``cross_entropy`` on images and ``outlier_exposure`` on strangers."""
        known, strange = logits_of_both(self._victim, batch, self._ood_bn)
        return {
            "cross_entropy": functional.cross_entropy(known, batch.targets),
            "outlier_exposure": self._lambda_oe * uniform_cross_entropy(strange).mean(),
        }

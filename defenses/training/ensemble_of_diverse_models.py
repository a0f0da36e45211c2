"""Ensemble of Diverse Models: members that agree on what they know and on nothing else.

Kariyappa, Prakash and Qureshi, "Protecting DNNs from Theft using an Ensemble of Diverse Models",
ICLR 2021. A thief's images are strangers, and each is answered by one member of many: what the
thief learns is inconsistent from one image to the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from defenses.training.option_ranges import weight
from defenses.training.two_streams import OodBatchNorm, check_ood_bn, logits_of_both
from models.ensemble import RoutedEnsemble
from models.training.objective import Batch, Objective

__all__ = ["EnsembleOfDiverseModels", "coherence_penalty"]


def coherence_penalty(logits: Tensor) -> Tensor:
    """``log sum_{a<b} exp(cos(p_a, p_b))`` with ``p = softmax(z)``: how alike members answer.

    A smooth form of coherence, the largest cosine of two members' answers. With n members it lies
    between ``log(n (n - 1) / 2)``, where no two answers share a class, and 1 more, where all are
    the same.

    Args:
        logits: ``(n, B, K)``, n at least 2, of the same images by every member.

    Returns:
        ``(B,)``.
    """
    answers = functional.normalize(logits.softmax(dim=2), dim=2)
    cosines = torch.einsum("abk,cbk->bac", answers, answers)
    first, second = torch.triu_indices(len(logits), len(logits), offset=1, device=logits.device)
    return cosines[:, first, second].logsumexp(dim=1)


class EnsembleOfDiverseModels(Objective):
    """Trains n members of one architecture together.

    - cross-entropy on images, the sum over members;
    - diversity: on strangers, ``lambda_d`` times the penalty on answers that are alike.

    Every member sees every image and every stranger, so a step costs 2n plain ones where there are
    as many strangers as images. What is judged on validation data is the ensemble as it is
    served: each image by the member to which the hash network routes it.

    Args:
        hashing: the hash network, trained before on something unrelated. It is put into evaluation
            mode, consulted in validation only, and not trained.
        members: n networks, at least 2, with first weights of their own.
        lambda_d: weight of the diversity, 0 or more. The authors' is not published.
        ood_bn: ``concatenated`` (as the same authors train Adaptive Misinformation), ``separate``
            or ``frozen``; see ``OodBatchNorm``.

    Raises:
        OptionError: ``lambda_d`` is out of range, or there is no such ``ood_bn``.
        ValueError: there are fewer than two members.
    """

    kind: ClassVar[str] = "edm"
    mixed_precision: ClassVar[bool] = True
    mean_over_samples: ClassVar[bool] = True
    needs_ood: ClassVar[bool] = True

    def __init__(
        self,
        hashing: nn.Module,
        *members: nn.Module,
        lambda_d: float = 1.0,
        ood_bn: OodBatchNorm = "concatenated",
    ) -> None:
        if len(members) < 2:
            raise ValueError(f"an ensemble that is to be diverse has 2 members, not {len(members)}")
        self._hashing = hashing
        self._members = members
        self._lambda_d = weight("lambda_d", lambda_d)
        self._ood_bn = check_ood_bn(ood_bn)
        self._ensemble = RoutedEnsemble(hashing, members)

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """``victim``, which is member 0, and ``member-1`` to ``member-(n-1)``."""
        roles = ("victim", *(f"member-{number}" for number in range(1, len(self._members))))
        return dict(zip(roles, self._members, strict=True))

    @property
    def evaluated(self) -> nn.Module:
        """The ensemble, each image answered by its own member."""
        return self._ensemble

    @property
    def frozen(self) -> Mapping[str, nn.Module]:
        """``hash``."""
        return {"hash": self._hashing}

    def options(self) -> Mapping[str, bool | int | float | str]:
        """``lambda_d`` and ``ood_bn``."""
        return {"lambda_d": self._lambda_d, "ood_bn": self._ood_bn}

    def losses(self, batch: Batch) -> Mapping[str, Tensor]:
        """``cross_entropy``, the sum over members, and ``diversity``, weighted."""
        said = [logits_of_both(member, batch, self._ood_bn) for member in self._members]
        errors = [functional.cross_entropy(known, batch.targets) for known, _ in said]
        alike = coherence_penalty(torch.stack([strange for _, strange in said]))
        return {
            "cross_entropy": torch.stack(errors).sum(),
            "diversity": self._lambda_d * alike.mean(),
        }

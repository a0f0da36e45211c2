"""Isolation and Induction: a victim whose answers point a thief's gradients elsewhere.

Guo et al., "Isolation and Induction: Training Robust Deep Neural Networks against Model Stealing
Attacks", ACM MM 2023, section 4. Where paper and published code differ, the code is the default
and the paper's form an option.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from defenses.training.clone_gradients import ClonePass, Theft, of_gradient
from defenses.training.gradient_measures import CosineTo, EuclideanNorm, MeanAbsolute, Measure
from defenses.training.option_ranges import one_of, weight
from defenses.training.two_streams import OodBatchNorm, check_ood_bn, logits_of_both
from models.training.objective import Batch, Objective

__all__ = [
    "GradientNorm",
    "Induction",
    "Isolation",
    "IsolationInduction",
    "centred_log_distance",
    "clone_from_victim",
    "victim_from_clone",
]

Isolation = Literal["kl_cv", "ce_vc"]
Induction = Literal["l1", "kl"]
GradientNorm = Literal["mean_abs", "l2"]


def victim_from_clone(clone: Tensor, victim: Tensor) -> Tensor:
    """``KL(softmax z_C || softmax z_V)``, the mean over the batch: equation 7, and the code.

    Its derivative by the clone's logits lives in log-probabilities, so that the tails of a nearly
    one-hot answer count as much as its peak.

    Args:
        clone: logits ``(B, K)``.
        victim: logits ``(B, K)``.
    """
    ours, theirs = clone.log_softmax(dim=1), victim.log_softmax(dim=1)
    return functional.kl_div(theirs, ours, reduction="batchmean", log_target=True)


def clone_from_victim(clone: Tensor, victim: Tensor) -> Tensor:
    """``CE(softmax z_V, softmax z_C)``, the mean over the batch: equation 4, what thieves do.

    Args:
        clone: logits ``(B, K)``.
        victim: logits ``(B, K)``.
    """
    return functional.cross_entropy(clone, victim.softmax(dim=1))


def centred_log_distance(clone: Tensor, victim: Tensor) -> Tensor:
    """``mean_{b,k} |z_C - (log v - mean_k log v)|``: the code's information gain.

    Args:
        clone: logits ``(B, K)``.
        victim: logits ``(B, K)``.
    """
    return (clone - (victim - victim.mean(dim=1, keepdim=True))).abs().mean()


ISOLATION: Mapping[str, Theft] = {"kl_cv": victim_from_clone, "ce_vc": clone_from_victim}
INDUCTION: Mapping[str, Theft] = {"l1": centred_log_distance, "kl": victim_from_clone}
GRADIENT_NORM: Mapping[str, Measure] = {"mean_abs": MeanAbsolute(), "l2": EuclideanNorm()}


class IsolationInduction(Objective):
    """Trains the victim against a clone of its own architecture, untrained and frozen.

    - isolation: on images, the cosine between the gradient that the clone would follow if it
      learned from the victim and the one if it learned from the true labels;
    - induction: on strangers, the distance of the victim's answers from the clone's, which leaves
      the clone little to learn;
    - gradient norm: on strangers, the size of what gradient the clone is left with.

    A term of weight 0 is neither computed nor among the losses. The authors combine the terms
    with PCGrad (``plan.combiner``), which averages over the terms where ``sum`` adds them up.

    Appendix C also trains the clone, against the victim, and gives that up as unstable. With
    ``theft`` it learns what a thief would who queries strangers and is told probabilities
    (equation 4). Each network follows its own losses only; both take their step at once, where the
    paper takes turns, because the loop has one optimiser. Of the clone nothing is kept.

    Args:
        victim: the network to train.
        clone: of the same architecture, with first weights of its own. It is put into evaluation
            mode and, without ``theft``, never trained.
        gamma: weight of the induction, the paper's gamma_2; 0 or more.
        delta: weight of the isolation, the paper's gamma_1; 0 or more.
        epsilon: weight of the gradient norm, the paper's gamma_2 times beta; 0 or more. The
            code's 1000 goes with ``mean_abs`` over the 11 million parameters of ResNet-18: a
            smaller network wants a smaller weight in proportion, and ``l2`` one of its own.
        isolation: the loss whose gradients are isolated: ``kl_cv``, KL(C || V), the code's; or
            ``ce_vc``, cross-entropy with the victim's answers as targets, the paper's.
        induction: ``l1`` on centred log-probabilities, the code's; or ``kl``, KL(C || V), the
            paper's.
        gradient_norm: ``mean_abs``, the mean of absolute values over all parameters, the code's;
            or ``l2``, the paper's. Of the gradient of KL(C || V) in either case.
        ood_bn: ``separate`` (the code's), ``concatenated`` or ``frozen``; see ``OodBatchNorm``.
        theft: weight of the clone's own loss, 0 or more: with one learning rate for both, how fast
            it learns. 0, the default, is the method; Appendix C does not give its own.
        second_order: differentiate twice through the clone instead of using a forward-mode pass;
            the same gradient.

    Raises:
        OptionError: a weight is out of range, or a form does not exist; names it.
    """

    kind: ClassVar[str] = "ini"
    needs_ood: ClassVar[bool] = True

    def __init__(
        self,
        victim: nn.Module,
        clone: nn.Module,
        *,
        gamma: float = 0.3,
        delta: float = 1.0,
        epsilon: float = 1000.0,
        isolation: Isolation = "kl_cv",
        induction: Induction = "l1",
        gradient_norm: GradientNorm = "mean_abs",
        ood_bn: OodBatchNorm = "separate",
        theft: float = 0.0,
        second_order: bool = False,
    ) -> None:
        one_of("isolation", isolation, get_args(Isolation))
        one_of("induction", induction, get_args(Induction))
        one_of("gradient_norm", gradient_norm, get_args(GradientNorm))
        self._victim = victim
        self._theft = weight("theft", theft)
        self._clone = clone.eval().requires_grad_(self._theft > 0.0)
        self._gamma = weight("gamma", gamma)
        self._delta = weight("delta", delta)
        self._epsilon = weight("epsilon", epsilon)
        self._isolation = isolation
        self._induction = induction
        self._gradient_norm = gradient_norm
        self._ood_bn = check_ood_bn(ood_bn)
        self._second_order = second_order

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """``victim``, and ``clone`` if it learns."""
        return {"victim": self._victim, **({"clone": self._clone} if self._theft else {})}

    @property
    def frozen(self) -> Mapping[str, nn.Module]:
        """``clone``, unless it learns."""
        return {} if self._theft else {"clone": self._clone}

    def options(self) -> Mapping[str, bool | int | float | str]:
        """The weights and the forms."""
        return {
            "gamma": self._gamma,
            "delta": self._delta,
            "epsilon": self._epsilon,
            "isolation": self._isolation,
            "induction": self._induction,
            "gradient_norm": self._gradient_norm,
            "ood_bn": self._ood_bn,
            "theft": self._theft,
            "second_order": self._second_order,
        }

    def losses(self, batch: Batch) -> Mapping[str, Tensor]:
        """``cross_entropy``, ``isolation``, ``induction`` and ``gradient_norm``, weighted.

        And ``theft``, the clone's.
        """
        assert batch.ood is not None, "the loop supplies what needs_ood asks for"
        self._clone.eval()  # the loop puts what it trains into training mode
        known, strange = logits_of_both(self._victim, batch, self._ood_bn)
        losses = {"cross_entropy": functional.cross_entropy(known, batch.targets)}
        if self._delta:
            losses["isolation"] = self._delta * self._cosine(batch, known)
        clone = ClonePass(self._clone, batch.ood) if self._epsilon else None
        if self._gamma:
            said = self._said_by_clone(batch.ood) if clone is None else clone.logits
            losses["induction"] = self._gamma * INDUCTION[self._induction](said, strange)
        if clone is not None:
            size = of_gradient(
                GRADIENT_NORM[self._gradient_norm],
                clone,
                strange,
                victim_from_clone,
                second_order=self._second_order,
            )
            losses["gradient_norm"] = self._epsilon * size
        if self._theft:
            stolen = self._clone.train()(batch.ood)
            losses["theft"] = self._theft * clone_from_victim(stolen, strange.detach())
            self._clone.eval()
        return losses

    def _cosine(self, batch: Batch, known: Tensor) -> Tensor:
        clone = ClonePass(self._clone, batch.images)
        logits = clone.logits.detach().requires_grad_()
        truth = functional.cross_entropy(logits, batch.targets)
        (pull,) = torch.autograd.grad(truth, logits)
        return of_gradient(
            CosineTo(clone.pulled_back(pull)),
            clone,
            known,
            ISOLATION[self._isolation],
            second_order=self._second_order,
        )

    def _said_by_clone(self, strangers: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = self._clone(strangers)
        return logits

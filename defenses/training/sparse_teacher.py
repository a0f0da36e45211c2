"""Teachers that learn sparse answers: STT on clean images, AST on adversarial ones.

Yilmaz and Keles, "Adversarial Sparse Teacher", 2024, equation 3 and section 3. A student that
distils such a teacher is taught a few wrong classes along with the right one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from defenses.errors import OptionError
from defenses.training.against_base import AgainstBase
from defenses.training.epd import Reduction, epd
from defenses.training.option_ranges import above_zero, one_of
from defenses.training.sparse import Rest, sparse
from models.training.objective import Batch

__all__ = ["AdversarialSparseTeacher", "SparseLoss", "SparseTeacher", "Target"]

SparseLoss = Literal["epd", "kl"]
Target = Literal["base", "self"]


class SparseTeacher(AgainstBase):
    """STT: ``alpha tau^2 D(p, q) + (1 - alpha) CE(z, y)``.

    p is the victim's softmax at temperature tau, q that of the base network's sparse logits on the
    same images.

    Args:
        victim: the teacher to train.
        base: the plain model of the same architecture; see ``AgainstBase``.
        alpha: share of the sparse term, in [0, 1].
        tau: temperature, above 0.
        sparsity: share of the classes that q keeps, the paper's sparsity ratio; above 0, at most 1.
        loss: D: ``epd``, or ``kl`` for KL(q || p), the paper's ablation.
        reduction: of EPD over the classes, which the paper leaves open: ``sum`` or ``mean``.
        rest: the logits that q does not keep: ``excluded`` from it, as Stingy's code does, or
            ``zeroed``, as the papers say.

    Raises:
        OptionError: an option is out of range.
    """

    kind: ClassVar[str] = "stt"
    mixed_precision: ClassVar[bool] = True
    mean_over_samples: ClassVar[bool] = True

    def __init__(
        self,
        victim: nn.Module,
        base: nn.Module,
        *,
        alpha: float = 0.05,
        tau: float = 6.0,
        sparsity: float = 0.2,
        loss: SparseLoss = "epd",
        reduction: Reduction = "sum",
        rest: Rest = "excluded",
    ) -> None:
        if not 0.0 <= alpha <= 1.0:
            raise OptionError("alpha", f"must be in [0, 1], not {alpha!r}")
        if not 0.0 < sparsity <= 1.0:
            raise OptionError("sparsity", f"must be above 0 and at most 1, not {sparsity!r}")
        one_of("loss", loss, get_args(SparseLoss))
        one_of("reduction", reduction, get_args(Reduction))
        one_of("rest", rest, get_args(Rest))
        if loss == "kl" and reduction == "mean":
            raise OptionError("reduction", "is EPD's: kl is a sum over the classes")
        super().__init__(victim, base)
        self._alpha = float(alpha)
        self._tau = above_zero("tau", tau)
        self._sparsity = float(sparsity)
        self._loss = loss
        self._reduction: Reduction = reduction
        self._rest: Rest = rest

    def options(self) -> Mapping[str, bool | int | float | str]:
        """``alpha``, ``tau``, ``sparsity``, ``loss``, ``reduction`` and ``rest``."""
        return {
            "alpha": self._alpha,
            "tau": self._tau,
            "sparsity": self._sparsity,
            "loss": self._loss,
            "reduction": self._reduction,
            "rest": self._rest,
        }

    def losses(self, batch: Batch) -> Mapping[str, Tensor]:
        """``cross_entropy``, and ``sparse``, which may be negative; weighted."""
        logits = self._victim(batch.images)
        with torch.no_grad():
            kept = sparse(self.taught(batch), self._sparsity, self._rest)
            target = (kept / self._tau).softmax(dim=1)
        scaled = logits / self._tau
        if self._loss == "epd":
            distance = epd(scaled.softmax(dim=1), target, self._reduction)
        else:
            # A target of exactly zero adds nothing here, whatever the prediction.
            distance = functional.kl_div(scaled.log_softmax(dim=1), target, reduction="batchmean")
        cross_entropy = functional.cross_entropy(logits, batch.targets)
        return {
            "cross_entropy": (1.0 - self._alpha) * cross_entropy,
            "sparse": self._alpha * self._tau**2 * distance,
        }

    def taught(self, batch: Batch) -> Tensor:
        """The logits ``(B, K)`` that are made sparse; no gradient flows through them."""
        return self.said_by_base(batch.images)


class AdversarialSparseTeacher(SparseTeacher):
    """AST: as STT, but q is what is said of adversarial versions of the images.

    Args:
        victim: the teacher to train.
        base: the plain model that the adversarial images were made to fool.
        alpha: see ``SparseTeacher``.
        tau: see ``SparseTeacher``.
        sparsity: see ``SparseTeacher``.
        loss: see ``SparseTeacher``.
        reduction: see ``SparseTeacher``.
        rest: see ``SparseTeacher``.
        target: whose logits: those of ``base``, as sections 2.4 and 4.2 have it; or of the victim
            ``self``, equation 3 to the letter: detached, and in evaluation mode, so that its
            running statistics never see an adversarial image.

    Raises:
        OptionError: an option is out of range.
    """

    kind: ClassVar[str] = "ast"
    needs_paired: ClassVar[bool] = True

    def __init__(
        self,
        victim: nn.Module,
        base: nn.Module,
        *,
        alpha: float = 0.05,
        tau: float = 6.0,
        sparsity: float = 0.2,
        loss: SparseLoss = "epd",
        reduction: Reduction = "sum",
        rest: Rest = "excluded",
        target: Target = "base",
    ) -> None:
        super().__init__(
            victim,
            base,
            alpha=alpha,
            tau=tau,
            sparsity=sparsity,
            loss=loss,
            reduction=reduction,
            rest=rest,
        )
        one_of("target", target, get_args(Target))
        self._target = target

    def options(self) -> Mapping[str, bool | int | float | str]:
        """Those of ``SparseTeacher``, and ``target``."""
        return {**super().options(), "target": self._target}

    def taught(self, batch: Batch) -> Tensor:
        """What ``target`` says of the paired images."""
        assert batch.paired is not None, "the loop supplies what needs_paired asks for"
        if self._target == "base":
            return self.said_by_base(batch.paired)
        was_training = self._victim.training
        self._victim.eval()
        try:
            logits: Tensor = self._victim(batch.paired)
        finally:
            self._victim.train(was_training)
        return logits

"""Nasty Teacher: as accurate as its base network, and as far from it in all else as it can be.

Ma et al., "Undistillable: Making A Nasty Teacher That CANNOT teach students", ICLR 2021,
section 3; the direction of the divergence and the weights are those of the published code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, get_args

from torch import Tensor, nn
from torch.nn import functional

from defenses.training.against_base import AgainstBase
from defenses.training.option_ranges import above_zero, one_of, weight
from models.training.objective import Batch

__all__ = ["Direction", "Nasty", "divergence"]

Direction = Literal["teacher-base", "base-teacher"]


def divergence(
    teacher: Tensor, base: Tensor, tau: float, direction: Direction = "teacher-base"
) -> Tensor:
    """``tau^2`` times a Kullback-Leibler divergence at temperature tau, the mean over the batch.

    ``KL(softmax(z_T / tau) || softmax(z_A / tau))`` in the direction ``teacher-base``. That is
    bounded above by ``-tau^2 log min_k softmax(z_A / tau)_k``, so that maximising it over the
    teacher ends somewhere; ``KL(softmax(z_A / tau) || softmax(z_T / tau))`` has no bound.

    Args:
        teacher: logits z_T ``(B, K)``.
        base: logits z_A ``(B, K)`` of the adversarial network.
        tau: temperature, above 0.
        direction: which of the two.
    """
    ours = functional.log_softmax(teacher / tau, dim=1)
    theirs = functional.log_softmax(base / tau, dim=1)
    # torch's arguments are the second distribution, then the first.
    second, first = (theirs, ours) if direction == "teacher-base" else (ours, theirs)
    return tau * tau * functional.kl_div(second, first, reduction="batchmean", log_target=True)


class Nasty(AgainstBase):
    """Cross-entropy, less ``omega`` times the divergence from a frozen, plainly trained base.

    Args:
        victim: the teacher to train.
        base: the adversarial network: the plain model of the same architecture. It is put into
            evaluation mode and never changed.
        omega: weight of the divergence; 0 or more. The authors' code says 0.04 for CIFAR-10 and
            tau 4, their paper 0.004; 0.005 and 0.01 go with tau 20 on CIFAR-100 and Tiny ImageNet.
        tau: temperature; above 0.
        ramp_epochs: over which ``omega`` grows from 0 to its full value, in proportion; 0 starts
            with all of it, as the authors do, which deep networks do not always survive.
        direction: ``teacher-base``, KL(T || A), as their code computes it; or ``base-teacher``,
            KL(A || T), as their paper prints it, which is unbounded: it wants a smaller ``omega``,
            a ramp or ``plan.clip_norm``.

    Raises:
        OptionError: an option is out of range.
    """

    kind: ClassVar[str] = "nasty"
    mixed_precision: ClassVar[bool] = True
    mean_over_samples: ClassVar[bool] = True

    def __init__(
        self,
        victim: nn.Module,
        base: nn.Module,
        *,
        omega: float = 0.04,
        tau: float = 4.0,
        ramp_epochs: float = 0.0,
        direction: Direction = "teacher-base",
    ) -> None:
        one_of("direction", direction, get_args(Direction))
        super().__init__(victim, base)
        self._omega = weight("omega", omega)
        self._tau = above_zero("tau", tau)
        self._ramp_epochs = weight("ramp_epochs", ramp_epochs)
        self._direction: Direction = direction

    def options(self) -> Mapping[str, bool | int | float | str]:
        """``omega``, ``tau``, ``ramp_epochs`` and ``direction``."""
        return {
            "omega": self._omega,
            "tau": self._tau,
            "ramp_epochs": self._ramp_epochs,
            "direction": self._direction,
        }

    def losses(self, batch: Batch) -> Mapping[str, Tensor]:
        """``cross_entropy``, and ``divergence``, which is negative."""
        logits = self._victim(batch.images)
        base = self.said_by_base(batch.images)
        distance = divergence(logits, base, self._tau, self._direction)
        ramped = batch.done < self._ramp_epochs
        omega = self._omega * (batch.done / self._ramp_epochs if ramped else 1.0)
        return {
            "cross_entropy": functional.cross_entropy(logits, batch.targets),
            "divergence": -omega * distance,
        }

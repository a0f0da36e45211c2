"""Nasty Teacher: as accurate as its base network, and as far from it in all else as it can be.

Ma et al., "Undistillable: Making A Nasty Teacher That CANNOT teach students", ICLR 2021,
section 3; the direction of the divergence and the weights are those of the published code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from defenses.errors import OptionError
from models.training.objective import Batch, Objective

__all__ = ["Nasty", "divergence"]


def divergence(teacher: Tensor, base: Tensor, tau: float) -> Tensor:
    """``tau^2 KL(softmax(z_T / tau) || softmax(z_A / tau))``, the mean over the batch.

    Bounded above by ``-tau^2 log min_k softmax(z_A / tau)_k``, so that maximising it over the
    teacher ends somewhere.

    Args:
        teacher: logits z_T ``(B, K)``.
        base: logits z_A ``(B, K)`` of the adversarial network.
        tau: temperature, above 0.
    """
    ours = functional.log_softmax(teacher / tau, dim=1)
    theirs = functional.log_softmax(base / tau, dim=1)
    return tau * tau * functional.kl_div(theirs, ours, reduction="batchmean", log_target=True)


class Nasty(Objective):
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

    Raises:
        OptionError: an option is out of range.
    """

    kind: ClassVar[str] = "nasty"

    def __init__(
        self,
        victim: nn.Module,
        base: nn.Module,
        *,
        omega: float = 0.04,
        tau: float = 4.0,
        ramp_epochs: float = 0.0,
    ) -> None:
        for option, value in (("omega", omega), ("ramp_epochs", ramp_epochs)):
            if not (math.isfinite(value) and value >= 0.0):
                raise OptionError(option, f"must be a finite number >= 0, not {value!r}")
        if not (math.isfinite(tau) and tau > 0.0):
            raise OptionError("tau", f"must be a finite number above 0, not {tau!r}")
        self._victim = victim
        self._base = base.eval().requires_grad_(False)
        self._omega = float(omega)
        self._tau = float(tau)
        self._ramp_epochs = float(ramp_epochs)

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """``victim``."""
        return {"victim": self._victim}

    @property
    def frozen(self) -> Mapping[str, nn.Module]:
        """``base``."""
        return {"base": self._base}

    def options(self) -> Mapping[str, bool | int | float | str]:
        """``omega``, ``tau`` and ``ramp_epochs``."""
        return {"omega": self._omega, "tau": self._tau, "ramp_epochs": self._ramp_epochs}

    def losses(self, batch: Batch) -> Mapping[str, Tensor]:
        """``cross_entropy``, and ``divergence``, which is negative."""
        logits = self._victim(batch.images)
        with torch.no_grad():
            base = self._base(batch.images)
        ramped = batch.done < self._ramp_epochs
        weight = self._omega * (batch.done / self._ramp_epochs if ramped else 1.0)
        return {
            "cross_entropy": functional.cross_entropy(logits, batch.targets),
            "divergence": -weight * divergence(logits, base, self._tau),
        }

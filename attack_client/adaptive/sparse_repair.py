"""Sparse repair: of answers with classes missing, learn what they say and not what they leave out.

A truncating victim (top-k, Stingy) serves zeros. Taken at its word, a clone learns that the classes
left out are impossible; a student at a high temperature learns little else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from attack_client.adaptive.contract import Knowledge, Training, Tuition
from attack_client.checked_numbers import finite_number
from models.training.objective import Batch, Objective

__all__ = ["RevealedOnly", "SparseRepair"]


class RevealedOnly(Objective):
    """``KL(v || c)`` among the revealed classes S, renormalised, and a share of ``-log c(S)``.

    ``-sum_S v_k log(c_k / c(S)) - mass log c(S)``; with ``mass`` 1 this is cross-entropy with the
    answer as it was served. A row that reveals one class is a label, and its mass is 1.

    Args:
        network: the clone.
        mass: what weight the fact has that S are the likeliest classes.
    """

    kind: ClassVar[str] = "revealed-only"
    mean_over_samples: ClassVar[bool] = True

    def __init__(self, network: nn.Module, *, mass: float) -> None:
        self._network = network
        self._mass = mass

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """The clone."""
        return {"clone": self._network}

    def options(self) -> Mapping[str, float]:
        """``mass``."""
        return {"mass": self._mass}

    def losses(self, batch: Batch) -> Mapping[str, Tensor]:
        """``within`` the revealed classes, and ``outside`` of them, weighted.

        Targets are ``(B, K)``, zero where nothing is revealed, and count by their sum; labels are
        rows that reveal one class.
        """
        logits, targets = self._network(batch.images), batch.targets
        if targets.ndim == 1:
            targets = nn.functional.one_hot(targets, logits.shape[1]).to(logits.dtype)
        revealed = targets > 0
        inside = logits.masked_fill(~revealed, -torch.inf).logsumexp(dim=1)
        within = -(targets * (logits - inside[:, None])).sum(dim=1)
        mass = torch.where(revealed.sum(dim=1) == 1, 1.0, self._mass)
        outside = targets.sum(dim=1) * mass * (logits.logsumexp(dim=1) - inside)
        return {"within": within.mean(), "outside": outside.mean()}


class SparseRepair(Training):
    """Trains clones on the revealed classes, renormalised.

    Args:
        mass: see ``RevealedOnly``; in [0, 1].
    """

    kind: ClassVar[str] = "sparse-repair"
    needs_soft: ClassVar[bool] = True
    replaces: ClassVar[bool] = True

    def __init__(self, *, mass: float = 0.1) -> None:
        if not 0.0 <= finite_number("mass", mass) <= 1.0:
            raise ValueError(f"mass must be in [0, 1], not {mass}")
        self.mass = mass

    def teach(self, tuition: Tuition, knowledge: Knowledge) -> Tuition:
        """Another objective in place of imitation, or of what ``tuition`` says is repaired so."""
        del knowledge
        repaired = tuition.repaired or (lambda clone, mass: RevealedOnly(clone, mass=mass))
        return Tuition(
            name=f"{tuition.name} as {self!r}",
            objective=lambda clone: repaired(clone, self.mass),
            unlabelled=tuition.unlabelled,
        )

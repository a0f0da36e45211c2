"""What MAD and GRAD2 share: a budget, and a surrogate whose gradients they bend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from torch import nn

from defenses.budget import checked_budget
from defenses.contract import Defense, Material, Stage
from defenses.errors import OptionError

__all__ = ["GradientDefense", "Jacobian"]

Jacobian = Literal["last_layer", "full"]
"""Whose gradients count: those of the last linear layer, in closed form, or of every weight."""

SURROGATE = "surrogate"
NETWORK = "network"
UNIFORM = "uniform"


class GradientDefense(Defense):
    """Perturbs an answer by what it would do to the gradients of a thief who trains on it.

    Args:
        surrogate: stands in for the clone; maps images ``(B, C, H, W)`` in [0, 1] to logits
            ``(B, K)``. None is a clone that answers ``1 / K`` to everything. A configuration says
            ``surrogate: network`` (the network of that role) or ``surrogate: uniform``.
        epsilon: the budget, an L1 distance in [0, 2].
        jacobian: ``last_layer``, or ``full``, which needs a network.

    Raises:
        OptionError: an option is out of range, or ``full`` without a network.
    """

    stage: ClassVar[Stage] = Stage.PERTURB
    roles: ClassVar[tuple[str, ...]] = (SURROGATE,)
    looked_up: ClassVar[tuple[str, ...]] = (SURROGATE,)

    def __init__(self, *, surrogate: nn.Module | None, epsilon: float, jacobian: Jacobian) -> None:
        if jacobian not in ("last_layer", "full"):
            raise OptionError("jacobian", f"must be last_layer or full, not {jacobian!r}")
        if jacobian == "full" and surrogate is None:
            raise OptionError(
                "jacobian", "full differentiates a network, so it needs surrogate: network"
            )
        self.epsilon = checked_budget(epsilon)
        self.jacobian: Jacobian = jacobian
        self._surrogate = surrogate

    def options(self) -> dict[str, Any]:
        """``epsilon``, ``surrogate`` and ``jacobian``."""
        chosen = UNIFORM if self._surrogate is None else NETWORK
        return {"epsilon": self.epsilon, "surrogate": chosen, "jacobian": self.jacobian}

    @classmethod
    def needs(cls, options: Mapping[str, Any]) -> tuple[str, ...]:
        """The surrogate, if these options ask for a network."""
        return cls.roles if options.get(SURROGATE) == NETWORK else ()

    @classmethod
    def resolve(cls, options: Mapping[str, Any], material: Material) -> Mapping[str, Any]:
        """Take out the choice of the surrogate, which ``needs`` has answered.

        Raises:
            OptionError: the choice is neither ``uniform`` nor ``network``.
        """
        del material
        chosen = options.get(SURROGATE, UNIFORM)
        if chosen not in (UNIFORM, NETWORK):
            raise OptionError(SURROGATE, f"must be {UNIFORM} or {NETWORK}, not {chosen!r}")
        return {key: value for key, value in options.items() if key != SURROGATE}

"""What a clone minimises."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from models.training.cross_entropy import CrossEntropy

__all__ = ["Imitation"]


class Imitation(CrossEntropy):
    """Cross-entropy with what the victim said.

    Soft: ``-sum_k v_k log c_k`` (Orekondy et al., CVPR 2019, section 4.2), on answers as they were
    recorded; rows that a truncating victim left short of 1 count for less. Hard: the same with
    the argmax of each answer as a label.

    Args:
        network: the clone.
    """

    kind: ClassVar[str] = "imitation"

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network, role="clone")

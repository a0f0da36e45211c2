"""What a training run minimises.

An objective owns the networks it trains and turns a batch into named losses.
The loop owns everything else: order, optimiser, schedule, checkpoints, progress.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

__all__ = ["Batch", "Objective"]


@dataclass(frozen=True, slots=True)
class Batch:
    """One step's data, already on the training device.

    Attributes:
        images: ``(B, C, H, W)`` float32 in [0, 1].
        targets: labels ``(B,)`` int64, or soft targets ``(B, K)`` float32 on the simplex.
        ood: out-of-distribution images ``(B', C, H, W)`` in [0, 1], where the objective asks.
        paired: ``(B, C, H, W)`` in [0, 1], where the objective asks: another version of each
            image, cropped and mirrored as the image is.
        done: epochs done before this step, from 0; a fraction within an epoch.
    """

    images: Tensor
    targets: Tensor
    ood: Tensor | None = None
    paired: Tensor | None = None
    done: float = 0.0


class Objective(ABC):
    """A set of networks and the losses that train them."""

    kind: ClassVar[str]
    """Name in recipes and cards."""

    needs_ood: ClassVar[bool] = False
    """Whether every batch must carry out-of-distribution images."""

    needs_paired: ClassVar[bool] = False
    """Whether every batch must carry another version of each image."""

    mixed_precision: ClassVar[bool] = False
    """Whether the networks may compute in 16 bits: their logits come back as float32.

    True where networks are called as they are and differentiated once by plain autograd.
    """

    mean_over_samples: ClassVar[bool] = False
    """Whether every loss is a mean over the samples of a batch, so that a batch may be shared out
    among several processes and the means put together again.

    False where a loss is some other function of the whole batch, or computes gradients itself.
    """

    @property
    @abstractmethod
    def networks(self) -> Mapping[str, nn.Module]:
        """The trained networks by role."""

    @property
    def evaluated(self) -> nn.Module | None:
        """What is judged on validation data: of the networks, ``victim`` or ``clone``.

        An objective whose networks answer together returns a module in which they do.
        """
        return self.networks.get("victim", self.networks.get("clone"))

    @property
    def frozen(self) -> Mapping[str, nn.Module]:
        """Networks that are consulted and not trained: the loop puts them on its device.

        They are part of what identifies a run, and of no checkpoint.
        """
        return {}

    def options(self) -> Mapping[str, bool | int | float | str]:
        """The effective hyper-parameters by name: part of what identifies a run."""
        return {}

    @abstractmethod
    def losses(self, batch: Batch) -> Mapping[str, Tensor]:
        """Named scalar losses of ``batch``, already weighted: a combiner adds them up."""

"""What a victim says of a batch and of the strangers beside it, and what its statistics see."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from defenses.training.option_ranges import one_of
from models.training.objective import Batch

__all__ = ["OodBatchNorm", "check_ood_bn", "logits_of_both"]

OodBatchNorm = Literal["separate", "concatenated", "frozen"]
"""How batch normalisation treats out-of-distribution images in training.

- ``separate``: a forward pass of their own after that of the images, each normalised by its own
  statistics; the running statistics are updated twice a step and end nearer to the strangers.
- ``concatenated``: one forward pass of both, normalised by, and remembered as, the mix.
- ``frozen``: normalised by the running statistics, as in service, and not remembered.
"""


def check_ood_bn(value: str) -> OodBatchNorm:
    """``value``, if there is such a treatment.

    Raises:
        OptionError: there is not; names the option ``ood_bn``.
    """
    one_of("ood_bn", value, get_args(OodBatchNorm))
    return cast(OodBatchNorm, value)


def logits_of_both(victim: nn.Module, batch: Batch, ood_bn: OodBatchNorm) -> tuple[Tensor, Tensor]:
    """The logits ``(B, K)`` of the images and ``(B', K)`` of the strangers of ``batch``."""
    assert batch.ood is not None, "the loop supplies what needs_ood asks for"
    if ood_bn == "concatenated":
        both: Tensor = victim(torch.cat([batch.images, batch.ood]))
        return both[: len(batch.images)], both[len(batch.images) :]
    known: Tensor = victim(batch.images)
    if ood_bn == "separate":
        strange: Tensor = victim(batch.ood)
    else:
        with _batch_norm_frozen(victim):
            strange = victim(batch.ood)
    return known, strange


@contextmanager
def _batch_norm_frozen(network: nn.Module) -> Iterator[None]:
    """Batch normalisation, and nothing else, in evaluation mode."""
    layers = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.training]
    for layer in layers:
        layer.eval()
    try:
        yield
    finally:
        for layer in layers:
            layer.train()

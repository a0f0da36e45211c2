"""Every random choice of a run, as a pure function of its seed and of where in the run it is.

Nothing here has a state to save: a resumed run draws what the interrupted one would have drawn.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor

__all__ = ["derive_seed", "epoch_batches", "generator", "ood_batches"]


def derive_seed(seed: int, purpose: str, *indices: int) -> int:
    """A 63-bit seed for one purpose at one place, for instance ``("shuffle", epoch)``."""
    text = "/".join([str(seed), purpose, *map(str, indices)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def generator(seed: int, purpose: str, *indices: int) -> torch.Generator:
    """A CPU generator for one purpose at one place."""
    return torch.Generator().manual_seed(derive_seed(seed, purpose, *indices))


def epoch_batches(count: int, steps: int, seed: int, epoch: int) -> tuple[Tensor, ...]:
    """A permutation of ``range(count)``, split into ``steps`` batches equal up to one sample."""
    order = torch.randperm(count, generator=generator(seed, "order", epoch))
    return order.tensor_split(steps)


def ood_batches(count: int, like: tuple[Tensor, ...], seed: int, epoch: int) -> tuple[Tensor, ...]:
    """Indices into ``count`` out-of-distribution images, as many per step as ``like`` has.

    The images are cycled and reshuffled at every pass.
    """
    sizes = [len(batch) for batch in like]
    passes = math.ceil(sum(sizes) / count)
    order = torch.cat(
        [torch.randperm(count, generator=generator(seed, "ood", epoch, n)) for n in range(passes)]
    )
    return torch.split(order[: sum(sizes)], sizes)

"""What comes back from the device: everything about a batch, packed into one transfer."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from defenses.chain import Outcome
from models.simplex import top1

__all__ = ["Returned", "bring_back"]


class Returned(NamedTuple):
    """What is known of B samples on the host; everything but ``failed`` is float32.

    Attributes:
        maps: ``(B, h, w)``, rows meaningful where a map was asked for; None where none was.
        probabilities: ``(B, K)``, what may leave.
        confidence: ``(B,)``, how sure the victim was, in [0, 1].
        failed: ``(B,)`` bool: rows that must not be answered.
        distortion: ``(B,)``, L1 distance between what the victim said and what leaves.
        changed: ``(B,)``, 1 where the top-1 that leaves is not the victim's, else 0.
        moved: ``(B, links)``, L1 distance between what each link was given and what it returned.
    """

    maps: NDArray[np.float32] | None
    probabilities: NDArray[np.float32]
    confidence: NDArray[np.float32]
    failed: NDArray[np.bool_]
    distortion: NDArray[np.float32]
    changed: NDArray[np.float32]
    moved: NDArray[np.float32]


def bring_back(victim: Tensor, outcome: Outcome) -> Returned:
    """Bring a batch to the host, in one transfer for everything that leaves the device.

    Args:
        victim: ``(B, K)``, what the victim said.
        outcome: what its chain made of that, on the same device.
    """
    maps, probabilities = outcome.answers.attributions, outcome.answers.probabilities
    parts = {
        "maps": victim[:, :0] if maps is None else maps.flatten(1),
        "probabilities": probabilities,
        "confidence": victim.amax(dim=1, keepdim=True),
        "failed": outcome.failed[:, None].float(),
        "distortion": (probabilities - victim).abs().sum(dim=1, keepdim=True),
        "changed": (top1(probabilities) != top1(victim))[:, None].float(),
        "moved": outcome.moved,
    }
    table = torch.cat(tuple(parts.values()), dim=1).cpu().numpy()
    ends = np.cumsum([part.shape[1] for part in parts.values()])
    found = dict(zip(parts, np.split(table, ends[:-1], axis=1), strict=True))
    return Returned(
        maps=None if maps is None else found["maps"].reshape(maps.shape),
        probabilities=found["probabilities"],
        confidence=found["confidence"][:, 0],
        failed=found["failed"][:, 0] > 0,
        distortion=found["distortion"][:, 0],
        changed=found["changed"][:, 0],
        moved=found["moved"],
    )

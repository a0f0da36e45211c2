"""Average Drop: how much a victim's score falls where all but what a map points at is black.

Chattopadhay et al., "Grad-CAM++", WACV 2018; as DeepDefense uses it, of the 15 % of an image.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import ttest_rel
from torch import Tensor, nn

from benchmarks.envelope import Row
from benchmarks.map_answers import Answers
from models.explain import Extent
from server.served import ServedModel

__all__ = ["average_drop"]

SHOWN = 0.15
"""Share of an image that a map points at, as in the paper."""


def pointed_at(maps: NDArray[np.float32], extent: Extent, size: tuple[int, int]) -> Tensor:
    """The ``SHOWN`` of each image ``(n, 1, H, W)`` where its map is greatest, as a mask."""
    lines = [
        _positions(length, count, first, last)
        for length, count, first, last in (
            (size[0], maps.shape[1], extent.top, extent.bottom),
            (size[1], maps.shape[2], extent.left, extent.right),
        )
    ]
    raised = torch.from_numpy(maps).double()
    large = (lines[0] @ raised @ lines[1].T).flatten(1)
    best = large.topk(round(SHOWN * large.shape[1]), dim=1).indices
    return torch.zeros_like(large).scatter(1, best, 1.0).reshape(-1, 1, *size).float()


def _positions(length: int, count: int, first: float, last: float) -> Tensor:
    """Bilinear weights ``(length, count)`` of a map's positions at pixels; none outside it."""
    pixels = np.arange(length) + 0.5
    places = (pixels - first) / (last - first) * count - 0.5
    weights = np.stack([np.interp(places, np.arange(count), row) for row in np.eye(count)], axis=1)
    covered = (pixels > first) & (pixels < last)
    return torch.from_numpy(np.where(covered[:, None], weights, 0.0))


def drops(network: nn.Module, images: NDArray[np.uint8], masks: Tensor) -> NDArray[np.float64]:
    """``relu(y - y')/y`` of each image, y the victim's score of its label."""
    pixels = torch.from_numpy(images) / 255.0
    with torch.no_grad():
        said, masked = (network(shown).softmax(dim=1) for shown in (pixels, pixels * masks))
    score, label = said.max(dim=1)
    left = masked.gather(1, label[:, None])[:, 0]
    found: NDArray[np.float64] = ((score - left).clamp(min=0) / score).double().numpy()
    return found


def average_drop(
    model: ServedModel, images: NDArray[np.uint8], own: Answers, shown: Answers
) -> list[Row]:
    """Average Drop of the victim's own maps and of those that leave, over what shows both."""
    extent = model.map_extent
    if extent is None:
        raise RuntimeError(f"{model.name} serves no maps")
    both = own[1].any(axis=(1, 2)) & shown[1].any(axis=(1, 2))
    size = (images.shape[2], images.shape[3])
    network = model.victim.module(0)
    one, other = (
        drops(network, images[both], pointed_at(maps[both], extent, size))
        for maps in (own[1], shown[1])
    )
    workload = f"mnist-test-{len(images)}"
    withheld = float((own[1].any(axis=(1, 2)) & ~shown[1].any(axis=(1, 2))).mean())
    return [
        Row("map-theft", workload, "deepdefense", "share", withheld, "of maps withheld"),
        Row("map-theft", workload, "none", "distance", float(one.mean()), "Average Drop"),
        Row("map-theft", workload, "deepdefense", "distance", float(other.mean()), "Average Drop",
            "none", float(other.mean() / one.mean())),
        Row("map-theft", workload, "deepdefense", "share", float(ttest_rel(one, other).pvalue),
            "p of a paired t-test of Average Drop"),
    ]  # fmt: skip

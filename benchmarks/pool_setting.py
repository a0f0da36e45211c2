"""What a small pool is asked about, and by whom: at a CPU's scale, and at a GPU's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from models.training.plan import Augment

__all__ = ["SETTINGS", "Setting"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A victim, its task, the thief's pool and the thief's clone.

    Attributes:
        task: dataset that the victim was trained on, which also tests the clones.
        pool: dataset that small pools are drawn from.
        clone: architecture.
        presentations: images a clone is shown in all.
        augment: what training does to the images of the row that augments.
        result: name of the result.
        said: of clones and pools, in the notes of the result.
    """

    task: str
    pool: str
    clone: str
    presentations: int
    augment: Augment
    result: str
    said: str


SETTINGS: Mapping[str, Setting] = {
    "mnist": Setting(
        task="mnist",
        pool="fashion_mnist",
        clone="lenet",
        presentations=20_000,
        augment="shift",
        result="composite-pools",
        said="Clones are LeNets, pools are drawn from Fashion-MNIST",
    ),
    "cifar10": Setting(
        task="cifar10",
        pool="cifar100",
        clone="resnet18",
        presentations=60_000,
        augment="crop-flip",
        result="composite-pools-cifar10",
        said="Clones are ResNet-18s, pools are drawn from CIFAR-100, shifting goes with mirroring",
    ),
    "digits": Setting(
        task="digits",
        pool="letters",
        clone="cnn-small",
        presentations=400,
        augment="shift",
        result="composite-pools-digits",
        said="Clones are small, pools are drawn from letters, and figures mean nothing",
    ),
}
"""By the victim's task; the bundled one is for trying whether it runs."""

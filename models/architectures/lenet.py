"""LeNet 20-50-500, the MNIST network of MAD, Adaptive Misinformation and KnockoffNets.

Source: knockoffnets, ``knockoff/models/mnist/models.py``.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.errors import ArchitectureError

__all__ = ["LeNet", "lenet"]

SMALLEST = 16


class LeNet(nn.Module):
    """conv5x5-20, pool, conv5x5-50, pool, FC-500, FC-K; ReLU between, no BatchNorm, no dropout."""

    def __init__(self, *, channels: int, size: tuple[int, int], outputs: int) -> None:
        super().__init__()
        height, width = ((side - 12) // 4 for side in size)
        self.features = nn.Sequential(
            nn.Conv2d(channels, 20, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(20, 50, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Linear(50 * height * width, 500),
            nn.ReLU(),
            nn.Linear(500, outputs),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, K)`` of normalised images ``(B, C, H, W)``."""
        logits: Tensor = self.classifier(self.features(images).flatten(1))
        return logits


def lenet(*, channels: int, size: tuple[int, int], outputs: int) -> nn.Module:
    """LeNet 20-50-500 for images of any size from 16x16 up; 800 features at 28x28.

    Raises:
        ArchitectureError: the images are too small for two 5x5 convolutions and two poolings.
    """
    if min(size) < SMALLEST:
        raise ArchitectureError(
            f"lenet needs images of at least {SMALLEST}x{SMALLEST}, not {size[0]}x{size[1]}"
        )
    return LeNet(channels=channels, size=size, outputs=outputs)

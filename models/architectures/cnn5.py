"""The 5-layer CNN that Nasty Teacher and AST use as a student.

Source: Nasty-Teacher, ``model/net.py``.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.errors import ArchitectureError

__all__ = ["Cnn5", "cnn5"]

SMALLEST = 8


class Cnn5(nn.Module):
    """3 x (conv3x3-32/64/128, BatchNorm, pool, ReLU), FC-128 with BatchNorm and ReLU, FC-K."""

    def __init__(self, *, channels: int, size: tuple[int, int], outputs: int) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        width = channels
        for filters in (32, 64, 128):
            stages += [
                nn.Conv2d(width, filters, 3, padding=1),
                nn.BatchNorm2d(filters),
                nn.MaxPool2d(2),
                nn.ReLU(),
            ]
            width = filters
        self.features = nn.Sequential(*stages)
        self.classifier = nn.Sequential(
            nn.Linear(width * (size[0] // 8) * (size[1] // 8), 128),
            nn.BatchNorm1d(128),
            nn.ReLU(),
            nn.Linear(128, outputs),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, K)`` of normalised images ``(B, C, H, W)``."""
        logits: Tensor = self.classifier(self.features(images).flatten(1))
        return logits


def cnn5(*, channels: int, size: tuple[int, int], outputs: int) -> nn.Module:
    """The 5-layer CNN for images of any size from 8x8 up; 2048 features at 32x32.

    Raises:
        ArchitectureError: the images are too small for three poolings.
    """
    if min(size) < SMALLEST:
        raise ArchitectureError(
            f"cnn5 needs images of at least {SMALLEST}x{SMALLEST}, not {size[0]}x{size[1]}"
        )
    return Cnn5(channels=channels, size=size, outputs=outputs)

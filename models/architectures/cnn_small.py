"""A CNN small enough to train in seconds: the network of the demo and of tests. Ours."""

from __future__ import annotations

from torch import Tensor, nn

from models.errors import ArchitectureError

__all__ = ["CnnSmall", "cnn_small"]

SMALLEST = 4


class CnnSmall(nn.Module):
    """2 x (conv3x3, BatchNorm, ReLU, pool) of ``width`` and ``2 * width`` filters, FC-K.

    The second pooling averages down to 4x4 whatever the size: with max-pooling there, training
    diverges at a learning rate of 0.1.
    """

    def __init__(self, *, channels: int, outputs: int, width: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
        )
        self.classifier = nn.Linear(2 * width * 4 * 4, outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, K)`` of normalised images ``(B, C, H, W)``."""
        logits: Tensor = self.classifier(self.features(images).flatten(1))
        return logits


def cnn_small(*, channels: int, size: tuple[int, int], outputs: int, width: int = 16) -> nn.Module:
    """About 10,000 parameters at one channel and ten classes.

    Args:
        channels: of the images.
        size: ``(H, W)``, at least 4x4.
        outputs: logits K.
        width: filters of the first convolution, at least 1; the second has twice as many.

    Raises:
        ArchitectureError: the images are too small for the pooling, or ``width`` is no
            positive integer.
    """
    if min(size) < SMALLEST:
        raise ArchitectureError(
            f"cnn-small needs images of at least {SMALLEST}x{SMALLEST}, not {size[0]}x{size[1]}"
        )
    if isinstance(width, bool) or not isinstance(width, int) or width < 1:
        raise ArchitectureError(f"cnn-small: width must be a positive integer, not {width!r}")
    return CnnSmall(channels=channels, outputs=outputs, width=width)

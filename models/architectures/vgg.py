"""VGG-16 at 32x32, with the usual small head and with that of the composite-image attack.

Source: Simonyan and Zisserman, ICLR 2015, configuration D: thirteen 3x3 convolutions and five
max-poolings, which leave one position of 512 channels. ``vgg16`` ends in one dense layer, as is
usual on CIFAR; ``vgg16-composite`` in dense layers of 512, 512 and K (the composite-image paper,
Table 1, which does not mention batch normalisation).
"""

from __future__ import annotations

from torch import Tensor, nn

from models.errors import ArchitectureError

__all__ = ["Vgg16", "vgg16", "vgg16_composite"]

SMALLEST = 32
STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class Vgg16(nn.Module):
    """Five stages of 3x3 convolutions, each ended by a pooling; dense layers.

    Args:
        channels: of the images.
        outputs: logits K.
        hidden: widths of the dense layers before the last one.
        bn: batch normalisation after every convolution.
    """

    def __init__(self, *, channels: int, outputs: int, hidden: tuple[int, ...], bn: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = channels
        for stage in STAGES:
            for filters in stage:
                layers.append(nn.Conv2d(width, filters, 3, padding=1))
                layers += [nn.BatchNorm2d(filters)] if bn else []
                layers.append(nn.ReLU())
                width = filters
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1))
        head: list[nn.Module] = []
        for units in hidden:
            head += [nn.Linear(width, units), nn.ReLU()]
            width = units
        self.classifier = nn.Sequential(*head, nn.Linear(width, outputs))
        if not bn:
            # With batch norm PyTorch's default serves, and is the sources'; without, the signal
            # fades over thirteen layers.
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                    if module.bias is not None:
                        nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, K)`` of normalised images ``(B, C, H, W)``."""
        logits: Tensor = self.classifier(self.features(images).flatten(1))
        return logits


def vgg16(*, channels: int, size: tuple[int, int], outputs: int, bn: bool = True) -> nn.Module:
    """VGG-16 with one dense layer, for images from 32x32 up.

    Raises:
        ArchitectureError: the images are too small for five poolings, or ``bn`` is no boolean.
    """
    _check("vgg16", size, bn)
    return Vgg16(channels=channels, outputs=outputs, hidden=(), bn=bn)


def vgg16_composite(
    *, channels: int, size: tuple[int, int], outputs: int, bn: bool = False
) -> nn.Module:
    """VGG-16 with dense layers of 512, 512 and K, for images from 32x32 up.

    Raises:
        ArchitectureError: the images are too small for five poolings, or ``bn`` is no boolean.
    """
    _check("vgg16-composite", size, bn)
    return Vgg16(channels=channels, outputs=outputs, hidden=(512, 512), bn=bn)


def _check(name: str, size: tuple[int, int], bn: object) -> None:
    if min(size) < SMALLEST:
        raise ArchitectureError(
            f"{name} needs images of at least {SMALLEST}x{SMALLEST}, not {size[0]}x{size[1]}"
        )
    if not isinstance(bn, bool):
        raise ArchitectureError(f"{name}: bn must be true or false, not {bn!r}")

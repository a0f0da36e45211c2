"""ShuffleNetV2 1.0x at 32x32: torchvision's network with a small-image stem.

Source: Nasty-Teacher, ``model/shufflenetv2.py``, a student of Nasty Teacher and AST: a 3x3 stem of
stride 1 without ReLU, no max-pool. Their convolutions carry biases, which the batch normalisation
behind each of them cancels; torchvision's have none.
"""

from __future__ import annotations

from torch import nn

__all__ = ["shufflenetv2"]


def shufflenetv2(*, channels: int, size: tuple[int, int], outputs: int) -> nn.Module:
    """CIFAR ShuffleNetV2 1.0x for images of any size and number of channels."""
    from torchvision.models.shufflenetv2 import ShuffleNetV2

    del size
    network = ShuffleNetV2([4, 8, 4], [24, 116, 232, 464, 1024], num_classes=outputs)
    network.conv1 = nn.Sequential(
        nn.Conv2d(channels, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24)
    )
    network.maxpool = nn.Identity()
    result: nn.Module = network
    return result

"""ResNet-18, -34 and -50 as they are used at 32x32: torchvision's with a small-image stem.

Source: the CIFAR ResNets of InI, Nasty Teacher and Stingy Teacher: 3x3 stem of stride 1, no
max-pool, stages of 64/128/256/512. Average pooling is adaptive, so any size works. Parameters of
ResNet-18 at 3 channels and 10 classes: 11,173,962.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

__all__ = ["resnet18", "resnet34", "resnet50"]


def resnet18(*, channels: int, size: tuple[int, int], outputs: int) -> nn.Module:
    """CIFAR ResNet-18, of BasicBlocks, for images of any size and number of channels.

    Convolutions are initialised by PyTorch's default, as in the sources, and not by torchvision's
    rule: batch norm hides the difference while a network is trained, but the untrained clone of
    InI, which is evaluated as it is, would answer ten times as far from uniform. They are stored
    channels-last, which is what both CPU and GPU kernels are fastest on.
    """
    from torchvision.models.resnet import BasicBlock

    del size  # adaptive pooling: one network for all sizes
    return _resnet(BasicBlock, [2, 2, 2, 2], channels, outputs)


def resnet34(*, channels: int, size: tuple[int, int], outputs: int) -> nn.Module:
    """CIFAR ResNet-34, of BasicBlocks; otherwise as ``resnet18``."""
    from torchvision.models.resnet import BasicBlock

    del size
    return _resnet(BasicBlock, [3, 4, 6, 3], channels, outputs)


def resnet50(*, channels: int, size: tuple[int, int], outputs: int) -> nn.Module:
    """CIFAR ResNet-50, of Bottlenecks that stride in their 3x3; otherwise as ``resnet18``."""
    from torchvision.models.resnet import Bottleneck

    del size
    return _resnet(Bottleneck, [3, 4, 6, 3], channels, outputs)


def _resnet(block: Any, layers: list[int], channels: int, outputs: int) -> nn.Module:
    from torchvision.models.resnet import ResNet

    network = ResNet(block, layers, num_classes=outputs)
    network.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.reset_parameters()
    result: nn.Module = network.to(memory_format=torch.channels_last)
    return result

"""ResNet-18 as it is used at 32x32: torchvision's network with a small-image stem.

Source: the CIFAR ResNet of InI, Nasty Teacher and Stingy Teacher: 3x3 stem of stride 1, no
max-pool, stages of 64/128/256/512, two BasicBlocks each. Average pooling is adaptive, so any
size works. Parameters at 3 channels and 10 classes: 11,173,962.
"""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["resnet18"]


def resnet18(*, channels: int, size: tuple[int, int], outputs: int) -> nn.Module:
    """CIFAR ResNet-18 for images of any size and number of channels.

    Convolutions are initialised by torchvision's rule (Kaiming normal, fan out) and stored
    channels-last, which is what both CPU and GPU kernels are fastest on.
    """
    from torchvision.models.resnet import BasicBlock, ResNet

    del size  # adaptive pooling: one network for all sizes
    network = ResNet(BasicBlock, [2, 2, 2, 2], num_classes=outputs)
    stem = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
    network.conv1 = stem
    network.maxpool = nn.Identity()
    result: nn.Module = network.to(memory_format=torch.channels_last)
    return result

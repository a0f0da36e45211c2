"""Residual networks whose blocks normalise and activate before each convolution.

Source: He et al., "Identity Mappings in Deep Residual Networks", ECCV 2016. The frame is that of
the CIFAR networks: a 3x3 stem of 16 filters, three stages of which the later two halve the
resolution, batch normalisation, ReLU, average pooling, one dense layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["PreActivationBlock", "PreActivationResNet"]

STEM = 16


class PreActivationBlock(nn.Module):
    """BN, ReLU, conv3x3, BN, ReLU, conv3x3, and a shortcut.

    Args:
        width: channels that come in.
        filters: channels that leave.
        stride: of the first convolution.
        activated_shortcut: where the shortcut has to change the shape, its 1x1 convolution starts
            from the activated input (wide ResNets) instead of the raw one.
    """

    def __init__(self, width: int, filters: int, stride: int, *, activated_shortcut: bool) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width, filters, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
        same = stride == 1 and width == filters
        self.shortcut = None if same else nn.Conv2d(width, filters, 1, stride, bias=False)
        self._activated_shortcut = activated_shortcut

    def forward(self, features: Tensor) -> Tensor:
        """``(B, width, h, w)`` to ``(B, filters, h / stride, w / stride)``."""
        active = self.bn1(features).relu()
        kept = features
        if self.shortcut is not None:
            kept = self.shortcut(active if self._activated_shortcut else features)
        out: Tensor = self.conv2(self.bn2(self.conv1(active)).relu())
        return out + kept


class PreActivationResNet(nn.Module):
    """Stem, three stages of equal depth, head.

    Convolutions are drawn from a normal distribution of variance ``2 / (k k filters)``.

    Args:
        channels: of the images.
        outputs: logits K.
        blocks: per stage.
        widths: filters of the three stages.
        activated_shortcut: see ``PreActivationBlock``.
    """

    def __init__(
        self,
        *,
        channels: int,
        outputs: int,
        blocks: int,
        widths: Sequence[int],
        activated_shortcut: bool,
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, STEM, 3, padding=1, bias=False)
        stages: list[nn.Module] = []
        width = STEM
        for index, filters in enumerate(widths):
            for block in range(blocks):
                stride = 2 if index > 0 and block == 0 else 1
                stages.append(
                    PreActivationBlock(
                        width, filters, stride, activated_shortcut=activated_shortcut
                    )
                )
                width = filters
        self.blocks = nn.Sequential(*stages)
        self.norm = nn.BatchNorm2d(width)
        # A module, so that class activation maps can be taken here.
        self.activation = nn.ReLU()
        self.classifier = nn.Linear(width, outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, K)`` of normalised images ``(B, C, H, W)``."""
        features = self.activation(self.norm(self.blocks(self.stem(images))))
        logits: Tensor = self.classifier(features.mean(dim=(2, 3)))
        return logits

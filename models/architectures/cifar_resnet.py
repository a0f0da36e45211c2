"""ResNet-20 and -32 for CIFAR, the students ResNetC-20 and ResNetC-32 of Nasty Teacher and AST.

Source: Nasty-Teacher, ``model/preresnet.py`` (``preresnet20``, ``preresnet32``): the CIFAR
networks of He et al., CVPR 2016, section 4.2, in pre-activation form, with a 1x1 convolution where
a shortcut changes its shape.
"""

from __future__ import annotations

from torch import nn

from models.architectures.preactivation import PreActivationResNet

__all__ = ["resnet20", "resnet32"]


def resnet20(*, channels: int, size: tuple[int, int], outputs: int) -> nn.Module:
    """Three stages of 16/32/64 filters with 3 blocks each; any image size."""
    del size
    return _resnet(3, channels, outputs)


def resnet32(*, channels: int, size: tuple[int, int], outputs: int) -> nn.Module:
    """Three stages of 16/32/64 filters with 5 blocks each; any image size."""
    del size
    return _resnet(5, channels, outputs)


def _resnet(blocks: int, channels: int, outputs: int) -> nn.Module:
    return PreActivationResNet(
        channels=channels,
        outputs=outputs,
        blocks=blocks,
        widths=(16, 32, 64),
        activated_shortcut=False,
    )

"""WRN-16-4, the CIFAR-10 victim of DeepDefense.

Source: Zagoruyko and Komodakis, "Wide Residual Networks", BMVC 2016: depth ``16 = 6 n + 4``, that
is two blocks per stage, four times as wide as the CIFAR ResNet; no dropout.
"""

from __future__ import annotations

from torch import nn

from models.architectures.preactivation import PreActivationResNet

__all__ = ["wrn_16_4"]


def wrn_16_4(*, channels: int, size: tuple[int, int], outputs: int) -> nn.Module:
    """Three stages of 64/128/256 filters with 2 blocks each; any image size."""
    del size
    return PreActivationResNet(
        channels=channels,
        outputs=outputs,
        blocks=2,
        widths=(64, 128, 256),
        activated_shortcut=True,
    )

"""Networks with answers that depend on their images, and what must not change about them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from models.architectures import build
from models.card import Normalisation

__all__ = ["images", "network", "state_of"]

SIZES = {"cnn-small": 12, "cnn5": 16, "lenet": 20}


def network(name: str, *, channels: int = 1, seed: int = 0) -> nn.Module:
    """An untrained network whose normalisation layers are not the identity."""
    size = SIZES.get(name, 32)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        made = build(
            name,
            channels=channels,
            size=(size, size),
            outputs=5,
            normalisation=Normalisation(mean=(0.4,) * channels, std=(0.3,) * channels),
        )
        for module in made.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0.0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
    return made.eval().requires_grad_(False)


def images(name: str, count: int = 3, *, channels: int = 1, seed: int = 1) -> Tensor:
    size = SIZES.get(name, 32)
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(seed))


def state_of(module: nn.Module) -> Iterator[tuple[str, object]]:
    """Everything about a network that an explanation must leave as it is."""
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        flags = (tensor.requires_grad, tensor.grad is None, tensor._version, tensor.data_ptr())
        yield name, (tensor.detach().clone().numpy().tobytes(), flags)
    for name, part in module.named_modules():
        hooks = (part._forward_hooks, part._forward_pre_hooks, part._backward_hooks)
        yield name, (part.training, [len(each) for each in hooks], type(part))

"""Names of architectures, and the one way to build a network from a name."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol

import torch
from torch import nn

from models.architectures.cifar_resnet import resnet20, resnet32
from models.architectures.cnn5 import cnn5
from models.architectures.cnn_small import cnn_small
from models.architectures.factory import allowed_factory, is_factory, load_factory
from models.architectures.lenet import lenet
from models.architectures.normalised import Normalised
from models.architectures.resnet import resnet18, resnet34, resnet50
from models.architectures.shufflenet import shufflenetv2
from models.architectures.vgg import vgg16, vgg16_composite
from models.architectures.wide_resnet import wrn_16_4
from models.card import Normalisation
from models.errors import ArchitectureError

__all__ = ["GROUP", "Builder", "all_arguments", "build", "check", "is_built_in", "names"]

GROUP = "intaglio.architectures"
"""Entry-point group in which an installed package registers builders."""


class Builder(Protocol):
    """Makes a network for *normalised* images; may take keyword arguments of its own."""

    def __call__(
        self, *, channels: int, size: tuple[int, int], outputs: int, **arguments: Any
    ) -> nn.Module:
        """A module from ``(B, channels, *size)`` to logits ``(B, outputs)``."""
        ...


BUILT_IN: Mapping[str, Any] = {
    "cnn-small": cnn_small,
    "cnn5": cnn5,
    "lenet": lenet,
    "resnet18": resnet18,
    "resnet20": resnet20,
    "resnet32": resnet32,
    "resnet34": resnet34,
    "resnet50": resnet50,
    "shufflenetv2": shufflenetv2,
    "vgg16": vgg16,
    "vgg16-composite": vgg16_composite,
    "wrn-16-4": wrn_16_4,
}


def names() -> tuple[str, ...]:
    """Names that ``build`` knows without being given a factory, sorted."""
    return tuple(sorted(BUILT_IN.keys() | _plug_ins().keys()))


def is_built_in(name: str) -> bool:
    """Whether ``name`` is one of our own, which build on any device, the ``meta`` device too."""
    return name in BUILT_IN


def check(name: str, *, allow_factories: Collection[str] = ()) -> None:
    """Refuse a name that ``build`` would refuse, without importing or building anything.

    Raises:
        ArchitectureError: no architecture has this name.
        FactoryRefused: the name speaks of code that is not in ``allow_factories``.
    """
    if is_factory(name):
        allowed_factory(name, allow_factories)
    elif name not in BUILT_IN and name not in _plug_ins():
        raise ArchitectureError(
            f"there is no architecture {name!r}: there are {', '.join(names())}, and your own "
            "as package.module:factory or file.py:factory"
        )


def build(
    name: str,
    *,
    channels: int,
    size: tuple[int, int],
    outputs: int,
    normalisation: Normalisation,
    arguments: Mapping[str, bool | int | float | str] = {},
    allow_factories: Collection[str] = (),
) -> Normalised:
    """A freshly initialised network with its normalisation inside.

    Args:
        name: a registered name, ``package.module:factory`` or ``file.py:factory``.
        channels: of the images.
        size: ``(H, W)`` of the images.
        outputs: logits K.
        normalisation: applied to the pixels before the network sees them.
        arguments: keyword arguments of the architecture's own.
        allow_factories: factories that may be imported and called.

    Returns:
        A module in training mode that maps float images ``(B, C, H, W)`` in [0, 1] to logits
        ``(B, K)``; weights come from torch's global generator.

    Raises:
        ArchitectureError: unknown name, arguments it does not take, images too small, or a
            factory that raises or whose product is not such a network.
        FactoryRefused: the name speaks of code that is not in ``allow_factories``.
    """
    check(name, allow_factories=allow_factories)
    if len(normalisation.mean) != channels:
        raise ArchitectureError(
            f"normalisation has {len(normalisation.mean)} channels but images have {channels}"
        )
    builder = _builder(name, allow_factories)
    _check_arguments(name, builder, arguments)
    try:
        network = builder(channels=channels, size=size, outputs=outputs, **arguments)
    except Exception as error:
        if is_built_in(name) or isinstance(error, ArchitectureError):
            raise
        # A person's own code: an assertion about sizes is an answer to them, not a crash of ours.
        raise ArchitectureError(
            f"architecture {name!r} cannot be made for {outputs} outputs of images of "
            f"{channels}x{size[0]}x{size[1]}: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(network, nn.Module):
        raise ArchitectureError(
            f"architecture {name!r} made a {type(network).__name__}, not a torch.nn.Module"
        )
    normalised = Normalised(network, normalisation)
    if not is_built_in(name):
        _check_logits(name, normalised, channels=channels, size=size, outputs=outputs)
    return normalised


def all_arguments(
    name: str,
    arguments: Mapping[str, bool | int | float | str],
    *,
    allow_factories: Collection[str] = (),
) -> Mapping[str, Any]:
    """``arguments`` and the defaults of those that are left out: equal for equal networks.

    Raises:
        ArchitectureError: unknown name, or arguments that it does not take.
        FactoryRefused: the name speaks of code that is not in ``allow_factories``.
    """
    check(name, allow_factories=allow_factories)
    builder = _builder(name, allow_factories)
    _check_arguments(name, builder, arguments)
    bound = inspect.signature(builder).bind(channels=1, size=(1, 1), outputs=1, **arguments)
    bound.apply_defaults()
    given = {"channels", "size", "outputs"}
    return {key: value for key, value in bound.arguments.items() if key not in given}


def _plug_ins() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def _builder(name: str, allow_factories: Collection[str]) -> Builder:
    if is_factory(name):
        return load_factory(allowed_factory(name, allow_factories))
    builder: Builder = BUILT_IN[name] if name in BUILT_IN else _plug_ins()[name].load()
    return builder


def _check_arguments(name: str, builder: Builder, arguments: Mapping[str, Any]) -> None:
    signature = inspect.signature(builder)
    try:
        signature.bind(channels=1, size=(1, 1), outputs=1, **arguments)
    except TypeError as error:
        own = [key for key in signature.parameters if key not in {"channels", "size", "outputs"}]
        takes = f"takes {', '.join(own)}" if own else "takes none"
        raise ArchitectureError(
            f"wrong arguments for architecture {name!r}: {error}; it {takes}"
        ) from error


def _check_logits(
    name: str, network: nn.Module, *, channels: int, size: tuple[int, int], outputs: int
) -> None:
    network.eval()
    try:
        with torch.no_grad():
            logits = network(torch.zeros(1, channels, *size))
    except Exception as error:
        raise ArchitectureError(
            f"architecture {name!r} fails on one image of {channels}x{size[0]}x{size[1]}: "
            f"{type(error).__name__}: {error}"
        ) from error
    finally:
        network.train()
    if not isinstance(logits, torch.Tensor) or tuple(logits.shape) != (1, outputs):
        shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ArchitectureError(
            f"architecture {name!r} must give logits of shape (1, {outputs}) for one image, "
            f"not {shape}"
        )

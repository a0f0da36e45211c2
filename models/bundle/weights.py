"""Weights between a module and a safetensors file, refused unless they match exactly."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from models.architectures import build
from models.architectures.registry import is_built_in
from models.card import InputSpec, Normalisation
from models.errors import ArchitectureError, BundleError

__all__ = ["check_finite", "check_match", "from_bytes", "instantiate", "skeleton", "to_bytes"]


def to_bytes(module: nn.Module) -> bytes:
    """The state dict of ``module`` as a safetensors file."""
    state = {
        name: tensor.detach().to("cpu", copy=True).contiguous()
        for name, tensor in module.state_dict().items()
    }
    return save(state)


def from_bytes(data: bytes, source: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        BundleError: ``data`` is no safetensors file; the message names ``source``.
    """
    try:
        return load(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{source} is not a valid safetensors file: {error}") from error


def instantiate(
    architecture: str,
    arguments: Mapping[str, bool | int | float | str],
    *,
    input: InputSpec,
    outputs: int,
    normalisation: Normalisation,
    where: str,
    allow_factories: Collection[str] = (),
) -> nn.Module:
    """The module a card describes, without moving the caller's random state.

    Raises:
        BundleError: its architecture cannot be built so; the message starts with ``where``.
    """
    try:
        with torch.random.fork_rng(devices=()):
            return build(
                architecture,
                channels=input.channels,
                size=(input.height, input.width),
                outputs=outputs,
                normalisation=normalisation,
                arguments=arguments,
                allow_factories=allow_factories,
            )
    except ArchitectureError as error:
        raise BundleError(f"{where}: {error}") from error


def skeleton(
    architecture: str,
    arguments: Mapping[str, bool | int | float | str],
    *,
    input: InputSpec,
    outputs: int,
    normalisation: Normalisation,
    where: str,
) -> dict[str, Tensor] | None:
    """The state dict that one of our own architectures would have, allocating nothing.

    A card that asks for a petabyte network is so refused by its shapes, not by the kernel.
    None for factories and plug-ins, whose code may not run on the ``meta`` device.

    Raises:
        BundleError: the architecture cannot be built so.
    """
    if not is_built_in(architecture):
        return None
    with torch.device("meta"):
        return instantiate(
            architecture,
            arguments,
            input=input,
            outputs=outputs,
            normalisation=normalisation,
            where=where,
        ).state_dict()


def check_match(
    held: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, source: str, architecture: str
) -> None:
    """Refuse tensors that are not exactly those of the architecture, by name, shape and type.

    Raises:
        BundleError: names the first difference.
    """
    missing = [name for name in expected if name not in held]
    if missing:
        raise BundleError(f"{source} lacks the tensor {missing[0]!r} that {architecture} needs")
    surplus = sorted(held.keys() - expected.keys())
    if surplus:
        raise BundleError(
            f"{source} holds a tensor {surplus[0]!r} that {architecture} does not have"
        )
    for name, tensor in expected.items():
        if held[name].shape != tensor.shape:
            raise BundleError(
                f"{source}: tensor {name!r} has shape {_shape(held[name])} where {architecture} "
                f"needs {_shape(tensor)}"
            )
        if held[name].dtype != tensor.dtype:
            raise BundleError(
                f"{source}: tensor {name!r} is {held[name].dtype} where {architecture} needs "
                f"{tensor.dtype}"
            )


def check_finite(tensors: Mapping[str, Tensor], source: str) -> None:
    """Refuse weights that are NaN or infinite: every answer they give would be a failure.

    Raises:
        BundleError: names the first such tensor.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise BundleError(f"{source}: tensor {name!r} holds NaN or infinite values")


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"

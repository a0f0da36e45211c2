"""Bundles that travel: weights as bfloat16, in files of at most 16 MiB.

A bundle that comes back this way has its card's measurements, but other weights to the last bits:
it is for going on with, and for looking at, not for quoting to the hundredth of a point.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.architectures import build
from models.bundle import NetworkSource, open_bundle, write_bundle
from models.card import Card

__all__ = ["LIMIT", "pack", "unpack"]

LIMIT = 16 * 2**20
"""Bytes of a file at most."""

MARGIN = 2**16
"""Bytes left for the header of a file."""


def pack(bundle: Path, out: Path) -> tuple[Path, ...]:
    """Write ``NAME.card.json`` and ``NAME.NUMBER.safetensors`` under ``out``.

    Args:
        bundle: directory NAME/VERSION.
        out: where the files go.

    Raises:
        ValueError: one tensor alone is larger than a file may be.
    """
    opened = open_bundle(bundle)
    name = opened.card.name
    out.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"{role}/{key}": value.to(torch.bfloat16) if value.is_floating_point() else value
        for role in opened.card.networks
        for key, value in opened.load(role).state_dict().items()
    }
    card = out / f"{name}.card.json"
    card.write_text(opened.card.model_dump_json(indent=2) + "\n", encoding="utf-8")
    files = [card]
    for number, shard in enumerate(_shards(tensors)):
        files.append(out / f"{name}.{number}.safetensors")
        save_file(shard, files[-1])
    return tuple(files)


def unpack(card_path: Path, bundles: Path) -> Path:
    """Write the bundle whose card ``pack`` left at ``card_path``, under ``bundles``.

    A bundle of that name and version that is there already is left as it is.

    Raises:
        ValueError: a tensor of the networks is not among the files beside the card.
    """
    card = Card.model_validate(json.loads(card_path.read_text(encoding="utf-8")))
    target = bundles / card.name / card.version
    if target.is_dir():
        return target
    tensors: dict[str, Tensor] = {}
    for shard in sorted(card_path.parent.glob(f"{card.name}.*.safetensors")):
        tensors.update(load_file(shard))
    networks = {}
    for role, network in card.networks.items():
        module = build(
            network.architecture,
            channels=card.input.channels,
            size=(card.input.height, card.input.width),
            outputs=network.outputs,
            normalisation=network.normalisation,
            arguments=network.arguments,
        )
        wanted = module.state_dict()
        absent = [key for key in wanted if f"{role}/{key}" not in tensors]
        if absent:
            raise ValueError(f"{card_path.parent} lacks {absent[0]} of {card.name}, {role}")
        module.load_state_dict(
            {key: tensors[f"{role}/{key}"].to(value.dtype) for key, value in wanted.items()}
        )
        networks[role] = NetworkSource(
            module=module,
            architecture=network.architecture,
            arguments=network.arguments,
            normalisation=network.normalisation,
            training=network.training,
            measured=network.measured,
        )
    return write_bundle(
        bundles,
        name=card.name,
        version=card.version,
        description=card.description,
        input=card.input,
        labels=card.labels,
        networks=networks,
        calibrations=card.calibrations,
    )


def _shards(tensors: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Consecutive tensors, as many as fit into a file."""
    shard: dict[str, Tensor] = {}
    held = 0
    for key, value in tensors.items():
        size = value.numel() * value.element_size()
        if size > LIMIT - MARGIN:
            raise ValueError(f"{key} takes {size:,} bytes, more than a file of {LIMIT:,} holds")
        if held + size > LIMIT - MARGIN:
            yield shard
            shard, held = {}, 0
        shard[key] = value.contiguous()
        held += size
    yield shard

"""Writing a bundle: all of it under a hidden name, then one rename."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import nn

from models.bundle.finding import CARD
from models.bundle.publishing import publish
from models.bundle.weights import check_finite, check_match, skeleton, to_bytes
from models.card import (
    Calibration,
    Card,
    InputSpec,
    Measurement,
    NetworkCard,
    Normalisation,
    Sensitivity,
    TrainingCard,
)
from models.errors import BundleError
from models.validation import first_problem

__all__ = ["NetworkSource", "write_bundle"]


@dataclass(frozen=True, slots=True)
class NetworkSource:
    """One network to be written.

    Attributes:
        module: as ``models.architectures.build`` made it, trained; any device.
        architecture: the name it was built by.
        normalisation: the one it was built with.
        arguments: the architecture's own arguments it was built with.
        training: how it was trained; None for weights that came from elsewhere.
        measured: what was measured of it.
    """

    module: nn.Module
    architecture: str
    normalisation: Normalisation
    arguments: Mapping[str, bool | int | float | str] = field(default_factory=dict)
    training: TrainingCard | None = None
    measured: Sequence[Measurement] = ()


def write_bundle(
    root: Path,
    *,
    name: str,
    version: str,
    description: str,
    input: InputSpec,
    labels: Sequence[str],
    networks: Mapping[str, NetworkSource],
    calibrations: Mapping[str, Calibration] = {},
    measured: Sequence[Measurement] = (),
    sensitivity: Sensitivity | None = None,
) -> Path:
    """Write ``root/NAME/VERSION``; readers see all of it or nothing.

    Args:
        root: where bundles are kept; made if missing.
        name: of the model.
        version: of the bundle; numbers sort as numbers.
        description: a sentence for people.
        input: what the model is shown.
        labels: K class names in the order of the victim's logits.
        networks: by role.
        calibrations: threshold tables by kind of defense.
        measured: what was measured of an ensemble as a whole.
        sensitivity: of the victim's layers.

    Returns:
        The directory of the bundle.

    Raises:
        BundleError: this version exists, the card would not be valid, or a network is not what
            its architecture builds.
    """
    files: dict[str, bytes] = {}
    cards: dict[str, NetworkCard] = {}
    try:
        for role, source in networks.items():
            files[f"{role}.safetensors"] = data = to_bytes(source.module)
            cards[role] = _describe(role, source, input, hashlib.sha256(data).hexdigest())
        card = Card(
            name=name,
            version=version,
            description=description,
            input=input,
            labels=tuple(labels),
            networks=cards,
            calibrations=dict(calibrations),
            measured=tuple(measured),
            sensitivity=sensitivity,
        )
    except ValidationError as error:
        raise BundleError(
            f"bundle {name}/{version}: {first_problem(error, root='card')}"
        ) from error
    files[CARD] = (card.model_dump_json(indent=2) + "\n").encode()
    return publish(root, name, version, files)


def _describe(role: str, source: NetworkSource, input: InputSpec, sha256: str) -> NetworkCard:
    outputs = _outputs(source.module, input, role)
    expected = skeleton(
        source.architecture,
        source.arguments,
        input=input,
        outputs=outputs,
        normalisation=source.normalisation,
        where=f"networks.{role}",
    )
    state = source.module.state_dict()
    where = f"networks.{role}"
    if expected is not None:
        check_match(state, expected, source=where, architecture=source.architecture)
    check_finite(state, where)
    return NetworkCard(
        architecture=source.architecture,
        arguments=dict(source.arguments),
        outputs=outputs,
        normalisation=source.normalisation,
        file=f"{role}.safetensors",
        sha256=sha256,
        parameters=sum(parameter.numel() for parameter in source.module.parameters()),
        training=source.training,
        measured=tuple(source.measured),
    )


def _outputs(module: nn.Module, input: InputSpec, role: str) -> int:
    first = next(module.parameters(), None)
    if first is None:
        raise BundleError(f"networks.{role} has no parameters")
    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            logits = module(torch.zeros(1, *input.shape, device=first.device))
    except RuntimeError as error:
        raise BundleError(f"networks.{role} fails on one image of its input: {error}") from error
    finally:
        module.train(training)
    return int(logits.shape[1])

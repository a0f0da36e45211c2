"""What several tests build: a tiny bundle on disk, and ways to falsify it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from models.architectures import build
from models.bundle import NetworkSource, write_bundle
from models.card import InputSpec, Measurement, Normalisation, TrainingCard

__all__ = ["HALF", "SPEC", "edit_card", "replace_weights", "source", "tiny_bundle"]

SPEC = InputSpec(channels=1, height=8, width=8)
HALF = Normalisation(mean=(0.5,), std=(0.5,))


def source(seed: int = 0, outputs: int = 3) -> NetworkSource:
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        module = build(
            "cnn-small",
            channels=1,
            size=(8, 8),
            outputs=outputs,
            normalisation=HALF,
            arguments={"width": 2},
        )
    return NetworkSource(
        module=module,
        architecture="cnn-small",
        normalisation=HALF,
        arguments={"width": 2},
        training=TrainingCard(
            objective="plain", data="toy", seed=seed, epochs=1, selection="last", recipe={"a": [1]}
        ),
        measured=(Measurement(dataset="toy", split="test", samples=8, accuracy=0.5),),
    )


def tiny_bundle(root: Path, name: str = "toy", version: str = "1", **roles: NetworkSource) -> Path:
    return write_bundle(
        root,
        name=name,
        version=version,
        description="Three classes of noise.",
        input=SPEC,
        labels=("a", "b", "c"),
        networks=roles or {"victim": source()},
    )


def edit_card(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Change ``card.json`` as somebody with an editor would."""
    card = json.loads((path / "card.json").read_text())
    edit(card)
    (path / "card.json").write_text(json.dumps(card))


def replace_weights(path: Path, data: bytes, role: str = "victim") -> None:
    """Replace a network's file and make the card agree, as a careful forger would."""
    (path / f"{role}.safetensors").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    edit_card(path, lambda card: card["networks"][role].update(sha256=digest))

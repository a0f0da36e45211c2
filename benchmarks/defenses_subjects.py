"""What ``benchmarks.defenses`` compares: chains over a network, and other ways to an answer."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.workloads import write_random_bundle
from defenses.contract import Queries
from models.simplex import GRID, round_to_grid
from server.repository import load_models
from server.served import ServedModel
from server.settings import Settings

__all__ = ["FORWARDS", "LINKS", "PLAIN", "SHAPES", "Subjects", "forward", "queries", "subjects"]

SHAPES = {"lenet": (1, 28, 28), "resnet18": (3, 32, 32)}
CLASSES = 10
MEMBERS = 5

Specs = Sequence[Mapping[str, Any]]

NETWORK = {"surrogate": "network"}
LINKS: dict[str, Specs] = {
    "label-only": [{"kind": "label-only"}],
    "top-k": [{"kind": "top-k", "k": 3}],
    "stingy": [{"kind": "stingy", "ratio": 0.2}],
    "rounding": [{"kind": "rounding", "decimals": 1}],
    "reverse-sigmoid": [{"kind": "reverse-sigmoid"}],
    "mad": [{"kind": "mad", "epsilon": 1.0, "oracle": "argmax"}],
    "mad-extreme": [{"kind": "mad", "epsilon": 1.0}],
    "mad-network": [{"kind": "mad", "epsilon": 1.0, **NETWORK}],
    "grad2": [{"kind": "grad2", "epsilon": 0.5}],
    "modelguard-w": [{"kind": "modelguard-w", "epsilon": 1.0}],
    "modelguard-s": [{"kind": "modelguard-s", "epsilon": 1.0, "codebook": "memory"}],
    "am": [{"kind": "am", "threshold": 0.5}],
    # Threshold 0: the victim is sure of every query, which is what traffic of its own kind is like.
    "am-skip-in-distribution": [{"kind": "am", "threshold": 0.0, "skip": True}],
}

FORWARDS = ("trained-in", "edm-5")
PLAIN = "none"


@dataclass(frozen=True, slots=True)
class Subjects:
    """What is measured of one architecture on one device.

    Attributes:
        forwards: ways to get a victim's answer.
        links: served models whose chains are timed alone.
        surrogate: a network to differentiate naively.
    """

    forwards: Mapping[str, ServedModel]
    links: Mapping[str, ServedModel]
    surrogate: nn.Module


def subjects(
    architecture: str, root: Path, device: torch.device, only: str | None = None
) -> Subjects:
    """Write bundles of random weights, and load them as the server does; all, or ``only`` one."""
    shape = SHAPES[architecture]
    bundles: dict[str, tuple[str, ...]] = {
        "plain": ("victim", "misinformation", "surrogate"),
        "resists": ("victim",),
        "ensemble": ("victim", *(f"member-{i}" for i in range(1, MEMBERS)), "hash"),
    }
    for seed, (name, roles) in enumerate(bundles.items()):
        if not (root / name).is_dir():
            write_random_bundle(
                root, name, architecture, shape, classes=CLASSES, roles=roles, seed=seed
            )
    served: dict[str, dict[str, Any]] = {
        PLAIN: {"victim": "plain"},
        **{name: {"victim": "plain", "defenses": list(chain)} for name, chain in LINKS.items()},
        FORWARDS[0]: {"victim": "resists"},
        FORWARDS[1]: {"victim": "ensemble"},
    }
    if only is not None:
        served = {only: served[only]}
    settings = Settings(model_dir=root, secret=secrets.token_hex(16), models=served)
    # What it would say of options that are set here on purpose, once for each process.
    logging.getLogger("server").setLevel(logging.ERROR)
    models = {model.name: model for model in load_models(settings, device)}
    return Subjects(
        forwards={name: models[name] for name in (PLAIN, *FORWARDS) if name in models},
        links={name: models[name] for name in LINKS if name in models},
        surrogate=next(iter(models.values())).victim.module(0),
    )


def forward(model: ServedModel, images: Tensor) -> Tensor:
    """What the victim says, as the engine has it computed."""
    with torch.inference_mode():
        said = model.victim.logits(images).float().softmax(dim=1)
    return round_to_grid(said, GRID)


def queries(images: Tensor, said: Tensor) -> Queries:
    """Everything a chain may look at."""
    count = len(images)
    generator = torch.Generator().manual_seed(1)
    return Queries(
        images=images,
        seeds=torch.randint(2**62, (count,), generator=generator).to(images.device),
        explain=torch.zeros(count, dtype=torch.bool, device=images.device),
        victim=said,
    )

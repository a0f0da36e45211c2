"""Small victims, bundles and queries with known answers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from defenses.contract import Answers, Defense, Material, Queries
from models.card import (
    Calibration,
    Card,
    CodebookCard,
    InputSpec,
    NetworkCard,
    Normalisation,
    Sensitivity,
)
from models.explain import build_interpreter
from models.simplex import GRID, round_to_grid

__all__ = [
    "answers",
    "apply",
    "calibration",
    "card",
    "images",
    "material",
    "network",
    "queries",
    "words",
]

SIZE = 6


def network(classes: int, seed: int, *, sharpness: float = 2.0) -> nn.Module:
    """A linear classifier of toy images: some answers are sure, some are not."""
    linear = nn.Linear(SIZE * SIZE, classes)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        linear.weight.normal_(0.0, sharpness / SIZE, generator=generator)
        linear.bias.zero_()
    return nn.Sequential(nn.Flatten(), linear).eval().requires_grad_(False)


def calibration() -> Calibration:
    return Calibration(
        dataset="toy",
        samples=1000,
        reference=0.95,
        thresholds=(0.2, 0.4, 0.6, 0.8),
        accuracies=(0.951, 0.948, 0.94, 0.90),
        rejected=(0.0, 0.01, 0.03, 0.1),
    )


def card(classes: int, *, calibrations: dict[str, Calibration] | None = None) -> Card:
    return Card(
        name="toy",
        version="1",
        input=InputSpec(channels=1, height=SIZE, width=SIZE),
        labels=tuple(f"class {label}" for label in range(classes)),
        networks={
            role: NetworkCard(
                architecture="toy",
                outputs=classes,
                normalisation=Normalisation(mean=(0.0,), std=(1.0,)),
                file=f"{role}.safetensors",
                sha256="0" * 64,
                parameters=1,
            )
            for role in ("victim", "misinformation", "surrogate")
        },
        calibrations={"am": calibration()} if calibrations is None else calibrations,
        codebooks={
            "modelguard-s": CodebookCard(
                datasets=("toy",),
                samples=64,
                epsilon=0.5,
                words=len(words(classes)),
                file="codebook.modelguard-s.safetensors",
                sha256="0" * 64,
            )
        },
        sensitivity=Sensitivity(dataset="toy", samples=64, layers={"1.weight": 1.0}),
    )


def words(classes: int) -> Tensor:
    """What a toy victim says of other images than are asked about; sure and unsure."""
    said = torch.softmax(network(classes, seed=0)(images(64, seed=5)), dim=1)
    return round_to_grid(said, GRID)


def material(classes: int) -> Material:
    networks = {
        "victim": network(classes, seed=0),
        "misinformation": network(classes, seed=1),
        "surrogate": network(classes, seed=2, sharpness=0.5),
    }
    return Material(
        card(classes),
        networks,
        interpreter=build_interpreter("gradient-x-input", networks["victim"]),
        codebooks={"modelguard-s": words(classes)},
    )


def images(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 1, SIZE, SIZE), generator=generator) / 255.0


def queries(victim: Tensor, *, pictures: Tensor | None = None) -> Queries:
    """Queries to which the victim said ``victim`` ``(B, K)``."""
    count = victim.shape[0]
    return Queries(
        images=images(count) if pictures is None else pictures,
        seeds=torch.arange(count, dtype=torch.int64),
        explain=torch.zeros(count, dtype=torch.bool),
        victim=victim,
    )


def answers(classes: int, pictures: Tensor) -> Queries:
    """Queries of ``pictures`` to a toy victim, canonical as the engine makes them."""
    said = torch.softmax(network(classes, seed=0)(pictures), dim=1)
    return queries(round_to_grid(said, GRID), pictures=pictures)


def apply(defense: Defense, probabilities: Tensor) -> Tensor:
    """What one defense makes of probabilities ``(B, K)``, outside any chain."""
    asked = queries(probabilities)
    return defense.apply(asked, Answers(probabilities)).probabilities

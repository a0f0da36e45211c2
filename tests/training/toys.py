"""Toy problems that a tiny network learns in a second, with known answers."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.training.data import TrainingData
from models.training.history import EpochRecord
from models.training.objective import Batch
from models.training.plan import Cosine, Plan, Sgd

CLASSES = 4


def quadrants(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Grey noise with one bright quadrant: its number is the label."""
    draws = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 90, (count, 1, 8, 8), generator=draws, dtype=torch.uint8)
    labels = torch.randint(0, CLASSES, (count,), generator=draws)
    for image, label in zip(images, labels.tolist(), strict=True):
        row, column = 4 * (label // 2), 4 * (label % 2)
        image[0, row : row + 4, column : column + 4] += 120
    return images, labels


def strangers(count: int, seed: int) -> Tensor:
    """Noise without a bright quadrant."""
    draws = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 1, 8, 8), generator=draws, dtype=torch.uint8)


def network(seed: int = 0, dropout: float = 0.0) -> nn.Module:
    """A convolutional network with batch normalisation and, on request, dropout."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(96, CLASSES),
        )


def problem(*, ood: bool = False, count: int = 150) -> TrainingData:
    """Training and validation images of ``quadrants``."""
    images, labels = quadrants(count, 1)
    others, truth = quadrants(60, 2)
    return TrainingData(images, labels, others, truth, strangers(90, 3) if ood else None)


def mixed(dtype: torch.dtype = torch.float64) -> Batch:
    """Seven images and six strangers."""
    known, labels = quadrants(7, 1)
    return Batch(known.to(dtype) / 255, labels, strangers(6, 2).to(dtype) / 255)


def plan(**changes: object) -> Plan:
    """A short run with every moving part that has state or draws numbers."""
    settled: dict[str, object] = {
        "epochs": 4,
        "batch_size": 32,
        "seed": 7,
        "optimiser": Sgd(lr=0.05, momentum=0.9, weight_decay=1e-4),
        "schedule": Cosine(),
        "augment": "shift",
    }
    return Plan.model_validate(settled | changes)


def weights(networks: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Every parameter and buffer, copied."""
    return {
        f"{role}/{name}": tensor.clone()
        for role, module in networks.items()
        for name, tensor in module.state_dict().items()
    }


def assert_same_bits(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    """Every tensor equal, bit for bit."""
    assert ours.keys() == theirs.keys()
    different = [name for name, tensor in ours.items() if not torch.equal(tensor, theirs[name])]
    assert different == []


class Interrupted(Exception):
    """Raised by ``Interrupting``."""


class Interrupting:
    """A reporter that remembers what it was told, and stops the run after some epochs."""

    def __init__(self, after: int | None = None) -> None:
        self.after = after
        self.calls: list[str] = []
        self.records: list[EpochRecord] = []
        self.done = -1

    def start(self, epochs: int, steps: int, done: int) -> None:
        self.calls.append(f"start {epochs} {steps} {done}")
        self.done = done

    def step(self, epoch: int, step: int, losses: Mapping[str, float]) -> None:
        self.calls.append(f"step {epoch} {step} {' '.join(losses)}")

    def epoch(self, record: EpochRecord) -> None:
        self.records.append(record)
        if record.epoch == self.after:
            raise Interrupted

    def stop(self) -> None:
        self.calls.append("stop")

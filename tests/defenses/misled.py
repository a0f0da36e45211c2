"""A small network to be misled about, and what is asked of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from defenses.contract import Queries
from defenses.deep_defense_objective import Goal
from models.simplex import GRID, round_to_grid
from tests.defenses.toys import SIZE, images

__all__ = ["CLASSES", "GROUPS", "LAYERS", "asked", "goal", "toy"]

CLASSES = 6
LAYERS = ("0.weight", "4.weight", "6.weight")
GROUPS = (("0.weight",), ("4.weight", "6.weight"))


class Halved(nn.Module):
    """Something that works in place between the layers."""

    def forward(self, values: Tensor) -> Tensor:
        values *= 0.5
        return values


def toy(seed: int = 0) -> nn.Module:
    """A small network with every kind of layer that matters: 3 of its layers can be changed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1, stride=2),
            Halved(),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Linear(4 * (SIZE // 2) ** 2, 12),
            nn.ReLU(),
            nn.Linear(12, CLASSES),
        )
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(3.0)
    return network.eval().requires_grad_(False)


def asked(network: nn.Module, count: int = 12) -> Queries:
    pictures = images(count, seed=3)
    return Queries(
        images=pictures,
        seeds=torch.arange(100, 100 + count),
        explain=torch.zeros(count, dtype=torch.bool),
        victim=round_to_grid(network(pictures).softmax(dim=1), GRID),
    )


def goal(queries: Queries, *, k: int = 2, decoys: bool = False) -> Goal:
    order = queries.victim.sort(dim=1, descending=True, stable=True).indices
    return Goal(
        shares=torch.tensor([0.3, 0.7], dtype=torch.float64),
        order=order,
        k=k,
        order_weight=10.0,
        lead=0.05,
        decoys=(order[:, 0] + 1) % CLASSES if decoys else None,
        decoy_weight=0.7,
    )

"""The network of D-DAE: from a defended posterior back to what the victim said.

"D-DAE: Defense-Penetrating Model Extraction Attacks" (Chen et al., IEEE S&P 2023); the sizes and
the training are those of ModelGuard's authors, whose last layer is normalised and rectified too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attack_client.checked_numbers import finite_number, whole_number

__all__ = ["RecoveryNetwork", "Schedule", "fit_recovery"]

SIZES = ((10, (128, 64)), (100, (1024, 512)))
LARGEST = (2048, 1024)


class RecoveryNetwork(nn.Module):
    """``K - h1 - h2 - K``: linear layers with batch normalisation and LeakyReLU(0.2), softmax.

    (h1, h2) is (128, 64) up to 10 classes, (1024, 512) up to 100, (2048, 1024) beyond.

    Args:
        classes: K.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        first, second = next((pair for most, pair in SIZES if classes <= most), LARGEST)
        self.layers = nn.Sequential(
            nn.Linear(classes, first),
            nn.BatchNorm1d(first),
            nn.LeakyReLU(0.2),
            nn.Linear(first, second),
            nn.BatchNorm1d(second),
            nn.LeakyReLU(0.2),
            nn.Linear(second, classes),
        )

    def forward(self, served: Tensor) -> Tensor:
        """``(n, K)`` to ``(n, K)`` on the simplex."""
        recovered: Tensor = self.layers(served).softmax(dim=1)
        return recovered

    @torch.no_grad()
    def recover(self, served: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the victim said, of what was served ``(n, K)``."""
        self.eval()
        device = next(self.parameters()).device
        parts = torch.split(torch.from_numpy(served), 65536)
        found = torch.cat([self(part.to(device)).cpu() for part in parts])
        return np.asarray(found.numpy(), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Schedule:
    """SGD with momentum 0.9 and weight decay 1e-4; the learning rate is halved half-way.

    The original takes a hundred times as many steps at a tenth of the learning rate.

    Attributes:
        epochs: passes over the pairs; 200 in the original.
        batch: pairs per step; 1024 in the original.
        lr: learning rate at the start; 0.01 in the original.
    """

    epochs: int = 20
    batch: int = 1024
    lr: float = 0.1

    def __post_init__(self) -> None:
        whole_number("epochs", self.epochs, least=1)
        whole_number("batch", self.batch, least=2)
        if not finite_number("lr", self.lr) > 0.0:
            raise ValueError(f"lr must be above 0, not {self.lr}")


def fit_recovery(
    served: NDArray[np.float32],
    said: NDArray[np.float32],
    *,
    schedule: Schedule,
    seed: int,
    device: torch.device | str = "cpu",
) -> RecoveryNetwork:
    """Train on pairs, by the L1 distance of what is recovered from what was said.

    Args:
        served: ``(n, K)``, defended.
        said: ``(n, K)``, of the same rows, not defended.
        schedule: how long and how fast.
        seed: of weights and order.
        device: where to train.

    Returns:
        The network, in evaluation mode.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = RecoveryNetwork(served.shape[1]).to(device)
    optimiser = torch.optim.SGD(
        network.parameters(), lr=schedule.lr, momentum=0.9, weight_decay=1e-4
    )
    halved = torch.optim.lr_scheduler.StepLR(optimiser, max(1, schedule.epochs // 2), gamma=0.5)
    draws = torch.Generator().manual_seed(seed)
    inputs, targets = torch.from_numpy(served).to(device), torch.from_numpy(said).to(device)
    network.train()
    for _ in range(schedule.epochs):
        for rows in torch.split(torch.randperm(len(inputs), generator=draws), schedule.batch):
            if len(rows) < 2:
                continue  # one row alone has no variance to normalise by
            chosen = rows.to(device)
            loss = (network(inputs[chosen]) - targets[chosen]).abs().sum(dim=1).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        halved.step()
    return network.eval()

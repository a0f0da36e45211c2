"""What a network answers, and how often two answers agree."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from attack_client.transfer_set import hard_labels
from models.training.evaluate import probabilities

__all__ = ["agreement", "predict"]


def predict(
    network: nn.Module, images: NDArray[np.uint8], *, device: torch.device | str = "cpu"
) -> NDArray[np.float32]:
    """Probabilities ``(N, K)`` of ``network`` for uint8 ``images`` ``(N, C, H, W)``."""
    answers = probabilities(network, torch.tensor(images), device=device)
    return np.asarray(answers.numpy(), dtype=np.float32)


def agreement(answers: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Share of rows of ``answers`` ``(N, K)`` whose top-1 is the label."""
    return float((hard_labels(answers) == labels).mean())

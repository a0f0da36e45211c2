"""What a network answers, and how often two answers agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["agreement", "hard_labels", "predict"]


def predict(
    network: nn.Module, images: NDArray[np.uint8], *, device: torch.device | str = "cpu"
) -> NDArray[np.float32]:
    """Probabilities ``(N, K)`` of ``network`` for uint8 ``images`` ``(N, C, H, W)``."""
    # Not above: whoever looks at answers on disk needs no network, and does not wait for PyTorch.
    import torch

    from models.training.evaluate import probabilities

    answers = probabilities(network, torch.tensor(images), device=device)
    return np.asarray(answers.numpy(), dtype=np.float32)


def hard_labels(probabilities: NDArray[np.float32]) -> NDArray[np.int64]:
    """The lowest-index maximum of each row: ``(n, K)`` to ``(n,)`` int64."""
    return np.asarray(probabilities.argmax(axis=1), dtype=np.int64)


def agreement(answers: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Share of rows of ``answers`` ``(N, K)`` whose top-1 is the label."""
    return float((hard_labels(answers) == labels).mean())

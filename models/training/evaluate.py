"""What a network says of images, and how often it is right."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.simplex import top1
from models.training.data import to_unit

__all__ = ["accuracy", "probabilities"]


def probabilities(
    network: nn.Module,
    images: Tensor,
    *,
    batch_size: int = 512,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Softmax outputs of ``network`` in evaluation mode; its mode is put back afterwards.

    Args:
        network: maps ``(B, C, H, W)`` in [0, 1] to logits ``(B, K)``; already on ``device``.
        images: ``(N, C, H, W)`` uint8, N at least 1.
        batch_size: images per forward pass.
        device: where the network is.

    Returns:
        ``(N, K)`` float32 on the CPU.
    """
    was_training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            answers = [
                network(to_unit(batch, device)).softmax(dim=1).float().cpu()
                for batch in torch.split(images, batch_size)
            ]
    finally:
        network.train(was_training)
    return torch.cat(answers)


def accuracy(predictions: Tensor, labels: Tensor) -> float:
    """Share in [0, 1] of rows that are right.

    Args:
        predictions: probabilities or logits ``(N, K)``, judged by their top-1; or labels ``(N,)``.
        labels: ``(N,)`` int64, or distributions ``(N, K)`` of which the top-1 counts.
    """
    guessed = top1(predictions) if predictions.ndim == 2 else predictions
    wanted = top1(labels) if labels.ndim == 2 else labels
    return (guessed == wanted).to(torch.float64).mean().item()

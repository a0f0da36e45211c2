"""An ensemble of which every image is answered by one member, chosen by the image itself."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.simplex import GRID, round_to_grid, top1

__all__ = ["BINS", "RoutedEnsemble", "member_of"]

BINS = 2
"""Steps into which the confidence of the hash network is cut: the m of the published code."""


def member_of(probabilities: Tensor, members: int) -> Tensor:
    """Which member answers an image of which the hash network says ``probabilities``.

    ``(m c + floor((M p - 1) m / (M - 1))) mod n`` with c the top-1 and p its probability, as in
    the published code of Ensemble of Diverse Models (Kariyappa, Prakash and Qureshi, ICLR 2021).
    Decided in whole steps of the canonical grid, so that the last bit of a float does not decide.

    Args:
        probabilities: ``(B, M)`` on the simplex, M at least 2: the classes of the hash network,
            which have nothing to do with those of the members.
        members: n, at least 1.

    Returns:
        ``(B,)`` int64 in [0, n).
    """
    classes = probabilities.shape[1]
    canonical = round_to_grid(probabilities, GRID)
    label = top1(canonical)
    steps = (canonical.amax(dim=1).to(torch.float64) * GRID).round().to(torch.int64)
    # Never negative: the largest of M probabilities is at least 1/M, up to a step of the grid.
    above = (classes * steps - GRID).clamp(min=0)
    confidence = torch.div(above * BINS, (classes - 1) * GRID, rounding_mode="floor")
    return (BINS * label + confidence) % members


class RoutedEnsemble(nn.Module):
    """n classifiers, and a hash network that says which of them answers an image.

    A victim like any other: to its callers it is one network. A batch is sorted by member, so that
    it costs about one forward pass of a member and one of the hash network, whatever n is.

    Always in evaluation mode when built; parameters and their gradients are left as they are.

    Args:
        hashing: the hash network h: images ``(B, C, H, W)`` in [0, 1] to logits ``(B, M)``.
        members: n of them, each from images to logits ``(B, K)``.

    Raises:
        ValueError: there is no member.
    """

    def __init__(self, hashing: nn.Module, members: Sequence[nn.Module]) -> None:
        super().__init__()
        if not members:
            raise ValueError("an ensemble has at least one member")
        self.hashing = hashing
        self.members = nn.ModuleList(members)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, K)`` of ``images`` ``(B, C, H, W)``, each by its own member."""
        order, counts = self._grouped(self.route(images))
        parts = torch.split(images[order], counts)
        answers = [
            member(part) for member, part in zip(self.members, parts, strict=True) if len(part)
        ]
        if not answers:
            return self.module(0)(images)  # type: ignore[no-any-return]
        grouped = torch.cat(answers)
        logits = torch.empty_like(grouped)
        logits[order] = grouped
        return logits

    def logits(self, images: Tensor) -> Tensor:
        """Logits ``(B, K)`` of ``images`` ``(B, C, H, W)`` in [0, 1]."""
        logits: Tensor = self(images)
        return logits

    def route(self, images: Tensor) -> Tensor:
        """Which member answers each row: ``(B,)`` int64, a pure function of the image."""
        said = self.hashing(images).to(torch.float32).softmax(dim=1)
        return member_of(said, len(self.members))

    def module(self, member: int) -> nn.Module:
        """The network of ``member``.

        Raises:
            IndexError: there is no such member.
        """
        if not 0 <= member < len(self.members):
            raise IndexError(
                f"this ensemble has members 0 to {len(self.members) - 1}, not {member}"
            )
        return self.members[member]

    def _grouped(self, members: Tensor) -> tuple[Tensor, list[int]]:
        """The rows by member, and how many each has: one transfer from the device per batch."""
        order = torch.argsort(members, stable=True)
        counts: list[int] = torch.bincount(members, minlength=len(self.members)).tolist()
        return order, counts

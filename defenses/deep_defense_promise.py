"""What DeepDefense promises of an answer, and what it says where it could not keep it."""

from __future__ import annotations

import torch
from torch import Tensor

from defenses.ties import break_ties
from models.simplex import GRID, round_to_grid, top1

__all__ = ["as_it_leaves", "keeps_order"]


def as_it_leaves(log_probabilities: Tensor, top: Tensor) -> Tensor:
    """The answer ``(B, K)`` float32 on the canonical grid, a tie broken toward ``top``.

    An order is to be verified of what leaves, not of what was rounded afterwards.
    """
    rounded = round_to_grid(log_probabilities.detach().exp(), GRID)
    return break_ties(rounded, top, steps=GRID)


def keeps_order(answers: Tensor, victim: Tensor, k: int) -> Tensor:
    """Rows ``(B,)`` whose top k classes are those of the victim, in its order (Eq. 3).

    The top-1 is strict: the lowest-index maximum of the answer is that of the victim. Of any other
    two classes of which one is in the victim's top k and likelier than the other, it is still at
    least as likely; where the victim's probabilities are equal there is no order to keep.

    Args:
        answers: ``(B, K)`` on the canonical grid.
        victim: ``(B, K)`` on the canonical grid.
        k: in [1, K].
    """
    top = victim.sort(dim=1, descending=True, stable=True)
    ranked = top.values[:, :k]
    mine = answers.gather(1, top.indices[:, :k])
    ordered = torch.ones_like(top1(answers), dtype=torch.bool)
    for place in range(k):
        below = ranked[:, place : place + 1] > victim
        ordered &= ~(below & (mine[:, place : place + 1] < answers)).any(dim=1)
    return ordered & (top1(answers) == top1(victim))

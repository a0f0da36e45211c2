"""How several losses become one gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

__all__ = ["COMBINERS", "Combiner", "PCGrad", "Sum"]


class Combiner(Protocol):
    """Turns named losses into gradients."""

    def backward(
        self,
        losses: Mapping[str, Tensor],
        parameters: Sequence[nn.Parameter],
        draws: torch.Generator,
    ) -> None:
        """Fill ``.grad`` of ``parameters``, which is None on entry.

        Args:
            losses: scalars with a graph, already weighted; the graph may be freed.
            parameters: of all networks that are trained.
            draws: this step's own randomness, the same again when a run is resumed.
        """
        ...


class Sum:
    """The gradient of the sum: losses come already weighted."""

    def backward(
        self,
        losses: Mapping[str, Tensor],
        parameters: Sequence[nn.Parameter],
        draws: torch.Generator,
    ) -> None:
        """One backward pass through the sum of ``losses``."""
        del parameters, draws  # autograd finds the former, and nothing here is random
        torch.autograd.backward(torch.stack(list(losses.values())).sum())


class PCGrad:
    """Gradient surgery: what one loss would undo of another is projected away.

    Yu et al., "Gradient Surgery for Multi-Task Learning", NeurIPS 2020, algorithm 1: the gradient
    ``g_i`` of each loss meets those of the other losses in random order, and where the two are
    opposed (``<h_i, g_j> < 0``) becomes ``h_i - <h_i, g_j> / ||g_j||^2 g_j`` with the untouched
    ``g_j``. The results are averaged, as in the code of InI, so that n losses which never oppose
    each other take a step 1/n as long as with ``Sum``.

    One backward pass per loss, and one copy of the gradient per loss in memory.
    """

    def backward(
        self,
        losses: Mapping[str, Tensor],
        parameters: Sequence[nn.Parameter],
        draws: torch.Generator,
    ) -> None:
        """As many backward passes as ``losses``, then the projections."""
        gradients = [
            torch.autograd.grad(loss, parameters, retain_graph=left > 0, allow_unused=True)
            for left, loss in zip(reversed(range(len(losses))), losses.values(), strict=True)
        ]
        reached = [
            index
            for index in range(len(parameters))
            if any(of_loss[index] is not None for of_loss in gradients)
        ]
        flat = torch.stack(
            [
                torch.cat(
                    [
                        (torch.zeros_like(parameters[i]) if g is None else g).flatten()
                        for i, g in ((index, of_loss[index]) for index in reached)
                    ]
                )
                for of_loss in gradients
            ]
        )
        weights = _surgery((flat @ flat.T).double().cpu(), draws).mean(dim=0)
        merged = weights.to(flat) @ flat
        sizes = [parameters[index].numel() for index in reached]
        for index, piece in zip(reached, torch.split(merged, sizes), strict=True):
            parameters[index].grad = piece.view(parameters[index].shape)


def _surgery(products: Tensor, draws: torch.Generator) -> Tensor:
    """Each projected gradient as a combination of the original ones.

    All of them lie in the span of the originals, so that inner products are all it takes.

    Args:
        products: ``(n, n)`` float64, ``<g_i, g_j>``.
        draws: decides the order in which gradients meet.

    Returns:
        ``(n, n)`` float64; row i are the coefficients of ``h_i``.
    """
    count = len(products)
    coefficients = torch.eye(count, dtype=products.dtype)
    for i, own in enumerate(coefficients):
        for j in torch.randperm(count, generator=draws).tolist():
            if j == i:
                continue
            opposed = own @ products[:, j]
            if opposed < 0.0:
                own[j] -= opposed / products[j, j]
    return coefficients


COMBINERS: Mapping[str, type[Combiner]] = {"pcgrad": PCGrad, "sum": Sum}
"""Combiners by their name in a plan."""

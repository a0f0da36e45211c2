"""How several losses become one gradient."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from models.training.inner_product import inner_product

__all__ = ["COMBINERS", "Combiner", "PCGrad", "PCGradSum", "Sum"]


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
        weights = self._merged(_surgery(_products(gradients), draws)).tolist()
        for index, parameter in enumerate(parameters):
            parameter.grad = _combined([of_loss[index] for of_loss in gradients], weights)

    def _merged(self, coefficients: Tensor) -> Tensor:
        return coefficients.mean(dim=0)


class PCGradSum(PCGrad):
    """``PCGrad`` with the projected gradients added up, as the algorithm is published.

    Losses that never oppose each other take the very step of ``Sum``.
    """

    def _merged(self, coefficients: Tensor) -> Tensor:
        return coefficients.sum(dim=0)


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
            # A square may underflow to zero where a product does not.
            if opposed < 0.0 < products[j, j]:
                own[j] -= opposed / products[j, j]
    return coefficients


def _products(gradients: Sequence[Sequence[Tensor | None]]) -> Tensor:
    """``<g_i, g_j>``, ``(n, n)`` float64 on the CPU; one transfer from the device in all."""
    pairs = itertools.combinations_with_replacement(range(len(gradients)), 2)
    met = [(i, j, inner_product(gradients[i], gradients[j])) for i, j in pairs]
    found = [(i, j, value) for i, j, value in met if value is not None]
    products = torch.zeros(len(gradients), len(gradients), dtype=torch.float64)
    if found:
        values = torch.stack([value for *_, value in found]).tolist()
        for (i, j, _), value in zip(found, values, strict=True):
            products[i, j] = products[j, i] = value
    return products


def _combined(parts: Sequence[Tensor | None], weights: Sequence[float]) -> Tensor | None:
    """``sum_i weights_i parts_i``, where None is zero; None if all of them are."""
    combined: Tensor | None = None
    for part, weight in zip(parts, weights, strict=True):
        if part is not None:
            combined = part * weight if combined is None else combined.add_(part, alpha=weight)
    return combined


COMBINERS: Mapping[str, type[Combiner]] = {"pcgrad": PCGrad, "pcgrad-sum": PCGradSum, "sum": Sum}
"""Combiners by their name in a plan."""

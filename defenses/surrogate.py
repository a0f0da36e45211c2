"""The thief as a defense imagines it: how its weights would follow each answer it could get.

A clone that trains on answer y to image x by cross-entropy moves its weights along ``G^T y``,
where row k of ``G`` ``(K, P)`` is the gradient of ``log f_A(x)_k`` with respect to the weights of
the clone f_A. Nobody knows the clone, so a surrogate stands in for it. All that defenses ask of
``G`` is the matrix of inner products ``G G^T`` ``(K, K)``, times an answer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vjp, vmap

from models.simplex import GRID, round_to_grid

__all__ = [
    "AllWeights",
    "Gradients",
    "LastLayer",
    "along_ones",
    "imagined",
    "inner_products",
    "returned_products",
]

FLOATS = 2**25
"""How many floats of gradients are held at once (256 MiB): bounds memory, never the answer."""

CHUNK = 64
"""How many images are differentiated side by side at most."""


class Gradients(ABC):
    """Inner products of the gradients of the K log-probabilities, for each of B images."""

    norms: Tensor
    """``(B, K)`` float64: squared length of each row of G, up to a positive factor per image."""

    @abstractmethod
    def times(self, answers: Tensor) -> Tensor:
        """``G G^T y`` for answers ``(B, K)`` or N per image ``(B, N, K)``, in float64."""


class LastLayer(Gradients):
    """Gradients of the last linear layer's weights alone, in closed form.

    Row k of G is ``(e_k - p) (x) h`` with p the surrogate's posterior and h what enters its last
    layer, so ``G G^T`` is ``|h|^2 (e_j - p) . (e_k - p)``; the factor ``|h|^2`` (``|h|^2 + 1`` with
    the bias) changes no direction and is left out. Nothing but p is needed: no Jacobian, no
    backward pass.

    Args:
        posteriors: p, ``(B, K)`` float64 on the simplex.
    """

    def __init__(self, posteriors: Tensor) -> None:
        self._p = posteriors
        square = (posteriors * posteriors).sum(dim=1, keepdim=True)
        self.norms = 1.0 - 2.0 * posteriors + square

    def times(self, answers: Tensor) -> Tensor:
        """``d - p . d`` with ``d = y - p sum(y)``."""
        p = self._p[:, None] if answers.ndim == 3 else self._p
        beside = answers - p * answers.sum(dim=-1, keepdim=True)
        return beside - (p * beside).sum(dim=-1, keepdim=True)


class AllWeights(Gradients):
    """Gradients of every weight of the surrogate.

    Args:
        products: ``G G^T``, ``(B, K, K)`` float64, as ``inner_products`` gives it.
    """

    def __init__(self, products: Tensor) -> None:
        self._products = products
        self.norms = products.diagonal(dim1=1, dim2=2)

    def times(self, answers: Tensor) -> Tensor:
        """The matrix applied to each answer."""
        if answers.ndim == 3:
            return answers @ self._products
        return (self._products * answers[:, None]).sum(dim=2)


def imagined(
    surrogate: nn.Module | None, images: Tensor, classes: int, *, all_weights: bool
) -> Gradients:
    """The gradients of a thief who is at the stage of ``surrogate``.

    Args:
        surrogate: maps images to logits ``(B, K)``; None for one that answers ``1 / K`` to
            everything, which a randomly initialised network does approximately.
        images: ``(B, C, H, W)`` float32 in [0, 1].
        classes: K.
        all_weights: gradients of every weight (needs a network), not of the last layer only.
    """
    if surrogate is None:
        shape = (images.shape[0], classes)
        return LastLayer(
            torch.full(shape, 1.0 / classes, dtype=torch.float64, device=images.device)
        )
    if all_weights:
        return AllWeights(inner_products(surrogate, images, classes))
    said = torch.softmax(surrogate(images).to(torch.float32), dim=1)
    # Decisions rest on it, so the float noise of a batch's size must not.
    return LastLayer(round_to_grid(said, GRID).to(torch.float64))


def inner_products(network: nn.Module, images: Tensor, classes: int) -> Tensor:
    """``G G^T`` over all weights: ``(B, K, K)`` float64, by one Jacobian per image.

    Images are taken side by side under ``vmap``, as many as fit the memory bound.
    """
    log_probabilities, weights = _functional(network)

    def products(image: Tensor) -> Tensor:
        rows = jacrev(log_probabilities)(weights, image)
        flat = [row.flatten(start_dim=1) for row in rows.values()]
        return torch.stack([row @ row.T for row in flat]).sum(dim=0)

    return _mapped(products, (images,), width=_size(weights) * classes)


def returned_products(network: nn.Module, images: Tensor, answers: Tensor) -> Tensor:
    """``G G^T y`` over all weights for one answer each: ``(B, K)`` float64.

    ``G^T y`` is one backward pass, and since it is linear in y, G is what that pass becomes when
    it is differentiated in turn: no Jacobian is formed.
    """
    log_probabilities, weights = _functional(network)

    def product(image: Tensor, answer: Tensor) -> Tensor:
        def pulled(chosen: Tensor) -> Weights:
            outputs, pull, *_ = vjp(lambda w: log_probabilities(w, image), weights)
            del outputs
            (direction,) = pull(chosen)
            return dict(direction)

        direction, push, *_ = vjp(pulled, answer)
        pushed: tuple[Tensor] = push(direction)
        return pushed[0]

    return _mapped(product, (images, answers), width=3 * _size(weights))


def along_ones(network: nn.Module, images: Tensor, classes: int) -> Tensor:
    """``G 1``: how each log-probability changes if every weight grows alike; ``(B, K)`` float64.

    The direction is the same for every image, so one backward pass over the whole batch,
    differentiated once more, tells it for all of them.
    """
    log_probabilities, weights = _functional(network)
    with torch.inference_mode(mode=False), torch.enable_grad():
        pictures = images.double()
        shape = (len(images), classes)
        answers = torch.zeros(shape, dtype=torch.float64, device=images.device, requires_grad=True)
        leaves = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
        said = vmap(log_probabilities, in_dims=(None, 0))(leaves, pictures)
        pulled = torch.autograd.grad(
            (answers * said).sum(), list(leaves.values()), create_graph=True
        )
        total = torch.stack([part.sum() for part in pulled]).sum()
        (change,) = torch.autograd.grad(total, answers)
    return change.detach()


Weights = dict[str, Tensor]


def _functional(network: nn.Module) -> tuple[Callable[[Weights, Tensor], Tensor], Weights]:
    """Log-probabilities ``(K,)`` of one image as a function of the weights, and the weights.

    All in float64: which target is best is often a near tie, and the float noise of a batch's
    size must not decide it. Buffers are constants in evaluation mode.
    """
    weights = {name: value.detach().double() for name, value in network.named_parameters()}
    constants = {
        name: value.double() if value.is_floating_point() else value
        for name, value in network.named_buffers()
    }

    def log_probabilities(chosen: Weights, image: Tensor) -> Tensor:
        logits: Tensor = functional_call(network, {**constants, **chosen}, (image[None],))
        return torch.log_softmax(logits[0], dim=0)

    return log_probabilities, weights


def _mapped(function: Callable[..., Tensor], parts: tuple[Tensor, ...], *, width: int) -> Tensor:
    """``function`` of each row of ``parts`` side by side, ``width`` floats of gradient each."""
    chunk = max(1, min(FLOATS // max(width, 1), CHUNK))
    # The engine answers in inference mode, whose tensors take no part in differentiation.
    with torch.inference_mode(mode=False), torch.no_grad():
        mapped: Tensor = vmap(function, chunk_size=chunk)(*(part.double() for part in parts))
    return mapped.detach()


def _size(weights: Weights) -> int:
    return sum(weight.numel() for weight in weights.values())

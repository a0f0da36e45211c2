"""The plain form of DeepDefense's weights: a whole copy of every chosen layer for each query."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from defenses.deep_defense_objective import Goal, Observed, Update, log_odds, objective
from defenses.deep_defense_ranking import Ranking
from models.explain import FunctionalInterpreter

__all__ = ["Weights"]

TINY = 1e-300

Reference = dict[str, Tensor]


class Weights:
    """Chosen weights of B queries, ``(B, *shape)`` each, as the paper has them.

    Queries are differentiated side by side under ``torch.func.vmap``; memory and work are those of
    B copies. It makes no assumption about the layers but that their weights have names.

    Args:
        network: the victim, in evaluation mode; not modified.
        groups: names of the chosen weights; gradients are compared group by group.
        images: ``(B, C, H, W)`` in [0, 1].
        labels: y, the victim's top-1, ``(B,)`` int64.
        interpreter: of the network, where maps of y are made too.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        groups: tuple[tuple[str, ...], ...],
        images: Tensor,
        labels: Tensor,
        interpreter: FunctionalInterpreter | None = None,
    ) -> None:
        self._network = network
        self._interpreter = interpreter
        self._groups = groups
        self._images = images.double()
        self._labels = labels
        every = {
            name: value.detach().double() if value.is_floating_point() else value
            for name, value in (*network.named_parameters(), *network.named_buffers())
        }
        names = [name for group in groups for name in group]
        self._chosen = {name: every.pop(name) for name in names}
        self._others = every
        self._reference: Reference = vmap(grad(self._odds), in_dims=(None, 0, 0))(
            self._chosen, self._images, self._labels
        )

    @property
    def maps(self) -> Tensor | None:
        """The victim's own maps ``(B, h, w)`` float64; None where none are made."""
        if self._interpreter is None:
            return None
        return vmap(self._explained, in_dims=(None, 0, 0))(self._chosen, self._images, self._labels)

    def start(self, noise: Callable[[int], Tensor], size: float) -> Update:
        """``w (1 + size N(0, 1))``, from n standard normal numbers for each query."""
        numbers = noise(sum(value.numel() for value in self._chosen.values()))
        update: Update = {}
        for name, value in self._chosen.items():
            taken, numbers = numbers[:, : value.numel()], numbers[:, value.numel() :]
            update[name] = value * (1.0 + size * taken.reshape(-1, *value.shape))
        return update

    def evaluate(self, update: Update, goal: Goal) -> tuple[Observed, Update]:
        """What networks with these weights say, and the gradient of the objective."""

        def loss(  # noqa: PLR0917, vmap maps over what it is given in order
            weights: Update,
            image: Tensor,
            label: Tensor,
            order: Tensor,
            decoy: Tensor,
            reference: Reference,
            *ranked: Tensor,
        ) -> tuple[Tensor, tuple[Tensor, ...]]:
            pulled, logits = grad(self._odds_and_logits, has_aux=True)(weights, image, label)
            cosines = torch.stack([_cosine(pulled, reference, group) for group in self._groups])
            said = torch.log_softmax(logits, dim=0)
            maps = () if self._interpreter is None else (self._explained(weights, image, label),)
            mine = replace(
                goal,
                order=order,
                decoys=None if goal.decoys is None else decoy,
                ranking=Ranking(*ranked) if ranked else None,
            )
            return objective(Observed(said, cosines, *maps), mine), (said, cosines, *maps)

        decoys = self._labels if goal.decoys is None else goal.decoys
        ranked = () if goal.ranking is None else goal.ranking
        gradient, seen = vmap(grad(loss, has_aux=True))(
            update, self._images, self._labels, goal.order, decoys, self._reference, *ranked
        )
        return Observed(*seen), gradient

    def _odds(self, weights: Update, image: Tensor, label: Tensor) -> Tensor:
        return self._odds_and_logits(weights, image, label)[0]

    def _odds_and_logits(
        self, weights: Update, image: Tensor, label: Tensor
    ) -> tuple[Tensor, Tensor]:
        logits = self._said(weights, image[None])[0]
        return log_odds(logits, label), logits

    def _explained(self, weights: Update, image: Tensor, label: Tensor) -> Tensor:
        assert self._interpreter is not None
        call = partial(self._said, weights)
        return self._interpreter.functional(call, image[None], label[None])[0]

    def _said(self, weights: Update, images: Tensor) -> Tensor:
        logits: Tensor = functional_call(self._network, {**self._others, **weights}, (images,))
        return logits


def _cosine(mine: Update, theirs: Reference, group: tuple[str, ...]) -> Tensor:
    dot = torch.stack([(mine[name] * theirs[name]).sum() for name in group]).sum()
    squares = [
        torch.stack([gradients[name].square().sum() for name in group]).sum()
        for gradients in (mine, theirs)
    ]
    return dot / (squares[0] * squares[1] + TINY).sqrt()

"""The search for a misdirection network per query: Adam, side by side, never out of bounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from defenses.deep_defense_objective import Goal, Observed, Update

__all__ = ["Form", "Found", "Plan", "Verdict", "joined", "search", "seeded"]

BETAS = (0.9, 0.999)
EPSILON = 1e-8

SHRINK, GROW = 0.4, 1.2
"""What becomes of a query's step size when a step broke the promise, and when it did not."""


class Form(Protocol):
    """How the weights of B queries are written down."""

    @property
    def maps(self) -> Tensor | None:
        """The victim's own maps ``(B, h, w)``; None where none are made."""
        ...

    def start(self, noise: Callable[[int], Tensor], size: float) -> Update:
        """Weights beside the victim's, by ``noise`` of relative ``size``."""
        ...

    def evaluate(self, update: Update, goal: Goal) -> tuple[Observed, Update]:
        """What networks with these weights say, and the gradient of the objective, detached."""
        ...


Verdict = Callable[[Observed], tuple[Tensor, Tensor]]
"""Of what was observed: answers ``(B, K)`` as they would leave, and which rows keep ``(B,)``."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How to search.

    Attributes:
        steps: steps of every query.
        rate: Adam's learning rate, the largest that a query uses.
        noise: size of the start, relative to the weights.
        turned: an iterate counts only if the weighted magnitude of its cosines is at most this.
        early_stop: let a query rest at an iterate that counts and is turned to this, and end when
            all rest; 0 makes every step of every query.
    """

    steps: int
    rate: float
    noise: float
    turned: float
    early_stop: float = 0.0


@dataclass(frozen=True, slots=True)
class Found:
    """The last good iterate of each query.

    Attributes:
        answers: ``(B, K)`` float32; meaningless where not ``good``.
        good: ``(B,)`` bool: whether any iterate kept the promise and was turned.
        cosines: ``(B, G)``, of that iterate.
        steps: how many steps were made.
        maps: ``(B, h, w)`` float32, of that iterate; all zeros where not ``good``; None where none
            are made.
    """

    answers: Tensor
    good: Tensor
    cosines: Tensor
    steps: int
    maps: Tensor | None


def joined(parts: Sequence[Found]) -> Found:
    """What was found for several batches, at least one, as if it had been one."""
    maps = [part.maps for part in parts if part.maps is not None]
    return Found(
        answers=torch.cat([part.answers for part in parts]),
        good=torch.cat([part.good for part in parts]),
        cosines=torch.cat([part.cosines for part in parts]),
        steps=max(part.steps for part in parts),
        maps=torch.cat(maps) if maps else None,
    )


def search(form: Form, goal: Goal, plan: Plan, verdict: Verdict, seeds: Tensor) -> Found:
    """Minimise the objective of each query by itself, and return its last good iterate.

    The weights start beside the victim's, not at them: there every cosine is 1 and its gradient
    exactly 0, so that the published method cannot take its first step. The start itself is never
    an answer: it is the victim's, and some noise.

    A step that breaks the promise is taken back and tried again shorter: a query's step size and
    moments are its own. Every query makes the same operations, whatever becomes of it.

    Args:
        form: the weights.
        goal: the objective.
        plan: how.
        verdict: judges what would leave.
        seeds: ``(B,)`` int64.
    """
    position = form.start(seeded(seeds), plan.noise)
    zeros = {name: torch.zeros_like(value) for name, value in position.items()}
    anchor, first, second = position, zeros, dict(zeros)
    rate = torch.full(seeds.shape, plan.rate, dtype=torch.float64, device=seeds.device)
    age = torch.zeros_like(rate)
    resting = torch.zeros_like(seeds, dtype=torch.bool)
    lost = torch.ones_like(resting)
    found = Found(*_nothing(goal), steps=0, maps=None)
    for step in range(plan.steps + 1):
        seen, gradient = form.evaluate(position, goal)
        answers, keeps = verdict(seen)
        magnitude = seen.cosines.abs()
        cosine = (magnitude * goal.shares).sum(dim=1)
        good = keeps & (cosine <= plan.turned)
        # The start is the victim's answer and some noise: never an answer of ours.
        good = good & ~resting & (step > 0)
        found = _kept(found, good, answers, seen, step)
        # Who starts outside, where noise or a tie put it, may walk until it is in.
        accepted = keeps | lost
        lost = lost & ~keeps
        moving = accepted & ~resting
        anchor = _chosen(moving, position, anchor)
        first = _chosen(moving, _blend(first, gradient, BETAS[0]), first)
        squared = {name: value.square() for name, value in gradient.items()}
        second = _chosen(moving, _blend(second, squared, BETAS[1]), second)
        age = age + moving
        rate = torch.where(accepted, (rate * GROW).clamp_max(plan.rate), rate * SHRINK)
        position = _stepped(anchor, first, second, age, rate)
        if plan.early_stop:
            resting = resting | (good & (cosine <= plan.early_stop))
            if bool(resting.all()):
                break
    return found


def _nothing(goal: Goal) -> tuple[Tensor, Tensor, Tensor]:
    shape, device = goal.order.shape, goal.order.device
    return (
        torch.zeros(shape, dtype=torch.float32, device=device),
        torch.zeros(shape[0], dtype=torch.bool, device=device),
        torch.ones(shape[0], len(goal.shares), dtype=torch.float64, device=device),
    )


def seeded(seeds: Tensor) -> Callable[[int], Tensor]:
    """Standard normal numbers that depend on a query's seed alone: of n, ``(B, n)`` float64."""

    def noise(count: int) -> Tensor:
        # Drawn on the CPU whatever the device: a query's noise does not move with it.
        rows = [
            torch.randn(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
            for seed in seeds.tolist()
        ]
        return torch.stack(rows).to(seeds.device)

    return noise


def _kept(found: Found, good: Tensor, answers: Tensor, seen: Observed, step: int) -> Found:
    return Found(
        answers=torch.where(good[:, None], answers, found.answers),
        good=found.good | good,
        cosines=torch.where(good[:, None], seen.cosines.abs(), found.cosines),
        steps=step,
        maps=None if seen.maps is None else _newer(good, seen.maps, found.maps),
    )


def _newer(rows: Tensor, maps: Tensor, before: Tensor | None) -> Tensor:
    """``maps`` in ``rows``; elsewhere what was there, which at first is nothing."""
    maps = maps.float()
    return torch.where(
        rows[:, None, None], maps, torch.zeros_like(maps) if before is None else before
    )


def _stepped(anchor: Update, first: Update, second: Update, age: Tensor, rate: Tensor) -> Update:
    """One step of Adam from ``anchor``, each query at its own age and rate."""
    length = rate / (1.0 - BETAS[0] ** age)
    correction = 1.0 - BETAS[1] ** age
    return {
        name: value
        - _along(length, value)
        * first[name]
        / ((second[name] / _along(correction, value)).sqrt() + EPSILON)
        for name, value in anchor.items()
    }


def _blend(old: Update, new: Update, share: float) -> Update:
    return {name: share * value + (1.0 - share) * new[name] for name, value in old.items()}


def _chosen(rows: Tensor, one: Update, other: Update) -> Update:
    return {
        name: torch.where(_along(rows, value), one[name], value) for name, value in other.items()
    }


def _along(rows: Tensor, value: Tensor) -> Tensor:
    """``rows`` ``(B,)`` shaped to be broadcast against ``value`` ``(B, ...)``."""
    return rows.reshape(-1, *(1,) * (value.ndim - 1))

"""What an add-on is, and what it works on.

attack --asks--> asking add-ons --ask--> oracle --> transfer set (every raw answer, on disk)
prefix of the transfer set --> asking add-ons gather --> answer add-ons --> clone
                                                         training add-ons say how it learns
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from attack_client.contract import Oracle, Pool
from attack_client.objectives import Imitation
from models.training.objective import Objective

__all__ = [
    "PLAIN",
    "AddOn",
    "Answering",
    "Asking",
    "Harvest",
    "Knowledge",
    "Posteriors",
    "Run",
    "Seam",
    "ShadowAnswers",
    "Training",
    "Tuition",
]

Posteriors = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""A defense as a function: what a victim said ``(n, K)`` to what it would have served."""

Run = Callable[[Oracle, Pool], Awaitable[None]]
"""An attack's ``run``, or one that add-ons already stand around."""


class Seam(enum.IntEnum):
    """Where in a theft an add-on works, in the order in which a theft passes them."""

    ASKING = 0
    ANSWERS = 1
    TRAINING = 2


@dataclass(frozen=True, slots=True, eq=False)
class Harvest:
    """What a clone is to learn from.

    Attributes:
        images: ``(M, C, H, W)`` uint8.
        answers: ``(M, K)`` float32.
        weights: ``(M,)`` float32 above 0, how much each image counts.
        positions: ``(M,)`` int64, where the attack asked for each image, as it counts; -1 for an
            image that an add-on asked for on its own account.
    """

    images: NDArray[np.uint8]
    answers: NDArray[np.float32]
    weights: NDArray[np.float32]
    positions: NDArray[np.int64]

    @classmethod
    def of(cls, images: NDArray[np.uint8], answers: NDArray[np.float32]) -> Harvest:
        """A prefix of a transfer set as it is: every answer counts as much as any other.

        Args:
            images: ``(M, C, H, W)`` uint8.
            answers: ``(M, K)`` float32.
        """
        count = len(images)
        return cls(images, answers, np.ones(count, dtype=np.float32), np.arange(count))

    def saying(self, answers: NDArray[np.float32]) -> Harvest:
        """The same images with other ``answers`` ``(M, K)``."""
        return replace(self, answers=np.ascontiguousarray(answers, dtype=np.float32))

    def only(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Harvest:
        """Those of its rows, in that order: positions ``(m,)`` int64, or ``(M,)`` bool."""
        return Harvest(
            self.images[rows], self.answers[rows], self.weights[rows], self.positions[rows]
        )


@dataclass(frozen=True, slots=True, eq=False)
class ShadowAnswers:
    """What an attacker's own copies of the service said of the same images.

    Attributes:
        defended: ``(n, K)`` float32, of the copy that is defended.
        plain: ``(n, K)`` float32, of the copy that is not.
    """

    defended: NDArray[np.float32]
    plain: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Knowledge:
    """What an attacker has beside the answers; all of it was given to the client.

    Attributes:
        classes: number of probabilities K.
        seed: of everything that an add-on draws; does not depend on defense, budget or labels.
        device: where networks are trained.
        known: the victim's defense, where the attacker knows it.
        shadow: answers of the attacker's own copies of the service, where there are any.
        unasked: ``(L, C, H, W)`` uint8, images of the pool that the victim was not asked about.
    """

    classes: int
    seed: int = 0
    device: torch.device | str = "cpu"
    known: Posteriors | None = None
    shadow: ShadowAnswers | None = None
    unasked: NDArray[np.uint8] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Tuition:
    """How a clone learns, beyond its recipe.

    Attributes:
        name: tells one from another wherever clones are kept by what they learnt from.
        objective: what the clone minimises, given the clone.
        unlabelled: ``(L, C, H, W)`` uint8, images of which the objective sees a batch at every
            step; None where it sees none.
        repaired: the same of revealed classes only, given the clone and the weight of the fact
            that the others are not among them; None for imitation, which ``sparse-repair`` knows.
    """

    name: str = "imitation"
    objective: Callable[[nn.Module], Objective] = Imitation
    unlabelled: NDArray[np.uint8] | None = None
    repaired: Callable[[nn.Module, float], Objective] | None = None


PLAIN = Tuition()
"""Imitation of the answers and nothing else."""


class AddOn(ABC):
    """One adaptation. Derive from ``Asking``, ``Answering`` or ``Training``.

    Constructors take options by keyword, validate and store them. ``repr`` is the configuration.
    """

    kind: ClassVar[str]
    """Name on the command line and in reports."""

    seam: ClassVar[Seam]

    untold: ClassVar[frozenset[str]] = frozenset()
    """Options that reports leave out: they say where something lies, not what was done."""

    needs_soft: ClassVar[bool] = False
    """Whether it means nothing to a clone that learns from labels alone."""

    undoes: ClassVar[str] = ""
    """A word for what it is one way to do; two ways of one kind are not combined."""

    needs_defense: ClassVar[bool] = False
    """Whether it must be told what the victim's defense is: as a function, or by a shadow."""

    takes_shadow: ClassVar[bool] = False
    """Whether a shadow service will do instead of the function."""

    def __repr__(self) -> str:
        """``kind(name=value, ...)`` of what the constructor stored."""
        stored = ", ".join(
            f"{name}={value!r}" for name, value in vars(self).items() if not name.startswith("_")
        )
        return f"{self.kind}({stored})"


class Asking(AddOn):
    """Stands between an attack and its oracle, and reads what it asked back from disk.

    What it asks belongs to the transfer set: a theft goes on only under the same asking add-ons.
    """

    seam: ClassVar[Seam] = Seam.ASKING

    @property
    def per_image(self) -> int:
        """Queries that one image of the attack costs."""
        return 1

    def leaves(self, budget: int) -> int:
        """Images that the attack may ask about, of ``budget`` queries that this may ask."""
        return budget // self.per_image

    def check(self, budget: int, pool: int) -> None:
        """Refuse what cannot be asked.

        Args:
            budget: queries to spend in all.
            pool: images in the surrogate pool.

        Raises:
            AdaptationError: says why.
        """
        del budget, pool

    @abstractmethod
    async def run(self, attack: Run, oracle: Oracle, pool: Pool) -> None:
        """Let ``attack`` ask; deterministic given pool and answers, as an attack is."""

    @abstractmethod
    def gather(self, harvest: Harvest) -> Harvest:
        """What the attack was told, from what was asked: any prefix of it."""


class Answering(AddOn):
    """Changes what a clone is told of the answers."""

    seam: ClassVar[Seam] = Seam.ANSWERS

    @abstractmethod
    def apply(self, harvest: Harvest, knowledge: Knowledge) -> Harvest:
        """The answers, weights or choice of images that a clone learns from.

        Raises:
            AdaptationError: these answers cannot be worked on; says why.
        """


class Training(AddOn):
    """Changes how a clone learns."""

    seam: ClassVar[Seam] = Seam.TRAINING

    replaces: ClassVar[bool] = False
    """Whether it puts another objective in the place of what was taught before it."""

    needs_unasked: ClassVar[bool] = False
    """Whether it learns from images of the pool that were not asked about."""

    @abstractmethod
    def teach(self, tuition: Tuition, knowledge: Knowledge) -> Tuition:
        """``tuition`` with what this add-on changes.

        Raises:
            AdaptationError: what it needs is not there.
        """

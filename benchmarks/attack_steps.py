"""The thefts of ``benchmarks.attack_curves``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from attack_client.attacks.attribution import Attribution
from attack_client.attacks.attribution_objective import MapMatching
from attack_client.attacks.composite import Composite
from attack_client.attacks.distil import Distil
from attack_client.attacks.distil_objective import Lesson
from attack_client.attacks.distil_student import SCRATCH
from attack_client.attacks.jbda import Jbda
from attack_client.attacks.jbda_targeted import JbdaTargeted
from attack_client.attacks.knockoff import Knockoff
from attack_client.contract import Attack
from attack_client.report.schema import Labels
from models.training.plan import Augment

__all__ = ["FRESH", "MOST", "ONCE", "SMALLER", "STANDARD", "Step", "planned"]

BUDGETS = (1_000, 3_000, 10_000)
SMALLER, MOST = COMPARED = BUDGETS[1:]
FEW = (200, 1_000, 3_000)
"""Of attackers who own images of the victim's own task, with labels."""
GROWN = (1_000, 3_000, 4_800)
"""Of attacks that double 150 seeds: six rounds of them at most."""

Clones = tuple[tuple[Labels, tuple[int, ...]], ...]


class Maker(Protocol):
    """Makes an attack."""

    def __call__(self, *, seed: int) -> Attack:
        """The attack, whose choices derive from ``seed``."""
        ...


@dataclass(frozen=True, slots=True)
class Step:
    """One theft and the clones of it.

    Attributes:
        name: of the attack, in the table.
        attack: made from ``seed``.
        clones: budgets by kind of labels.
        pool: whose training images are asked about, or begin it.
        matching: how clones learn from maps, where they do.
        lesson: how students learn from a teacher and from labels of their own, where they do.
        augment: of the images that clones are shown.
        compared: whether every seed makes it, at the budgets of the comparison.
    """

    name: str
    attack: Maker
    clones: Clones
    pool: str = "fashion_mnist"
    matching: MapMatching | None = None
    lesson: Lesson | None = None
    augment: Augment = "none"
    compared: bool = False

    @property
    def budget(self) -> int:
        """Queries of the theft."""
        return max(most for _, budgets in self.clones for most in budgets)


LABELS: tuple[Labels, ...] = ("soft", "hard")
STANDARD, ONCE, FRESH = "knockoff", "composite", "composite (new in every epoch)"
STEPS = (
    Step(
        STANDARD,
        lambda *, seed: Knockoff(seed=seed),
        (("soft", BUDGETS), ("hard", BUDGETS)),
        compared=True,
    ),
    Step(
        ONCE,
        lambda *, seed: Composite(seed=seed),
        (("soft", (MOST,)), ("hard", BUDGETS)),
        compared=True,
    ),
    Step(
        FRESH,
        lambda *, seed: Composite(per_epoch=MOST // 10, seed=seed),
        (("hard", (MOST,)),),
        compared=True,
    ),
    Step(
        "knockoff (shifted in training)",
        lambda *, seed: Knockoff(seed=seed),
        (("soft", BUDGETS), ("hard", BUDGETS)),
        augment="shift",
    ),
    *(
        Step(
            f"{kind}, {labels}",
            partial(attack, step="strong", labels=labels),
            ((labels, GROWN),),
            pool="mnist",
        )
        for kind, attack in (("jbda", Jbda), ("jbda-tr", JbdaTargeted))
        for labels in LABELS
    ),
    *(
        Step(
            f"knockoff (adaptive, {reward})",
            partial(Knockoff, strategy="adaptive", reward=reward),
            (("soft", BUDGETS[:2]), ("hard", BUDGETS[:2])),
        )
        for reward in ("cert", "div", "loss", "all")
    ),
    Step(
        "attribution (lambda 1)",
        lambda *, seed: Attribution(seed=seed),
        (("soft", BUDGETS[:2]), ("hard", BUDGETS[:2])),
        matching=MapMatching(1.0, "grad-cam"),
    ),
    Step(
        "composite (3 parts)",
        lambda *, seed: Composite(parts=3, seed=seed),
        (("soft", (MOST,)), ("hard", BUDGETS)),
    ),
    *(
        Step(
            "distil (labels alone)" if lesson == SCRATCH else lesson.name,
            lambda *, seed: Distil(seed=seed),
            (("hard" if lesson == SCRATCH else "soft", FEW),),
            pool="mnist",
            lesson=lesson,
        )
        for lesson in (SCRATCH, Lesson())
    ),
)


def planned(seeds: int) -> Iterator[tuple[Step, int]]:
    """Every step of the first seed, then what is compared of the others."""
    yield from ((step, 0) for step in STEPS)
    for seed in range(1, seeds):
        for step in STEPS:
            if step.compared:
                kept = tuple(
                    (labels, tuple(one for one in budgets if one in COMPARED))
                    for labels, budgets in step.clones
                )
                yield replace(step, clones=kept), seed

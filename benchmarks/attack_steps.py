"""The thefts of ``benchmarks.attack_curves``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from attack_client.attacks.attribution import Attribution
from attack_client.attacks.attribution_objective import Mirror
from attack_client.attacks.composite import Composite
from attack_client.attacks.jbda import Jbda
from attack_client.attacks.jbda_targeted import JbdaTargeted
from attack_client.attacks.knockoff import Knockoff
from attack_client.contract import Attack
from attack_client.report.schema import Labels

__all__ = ["FRESH", "MOST", "ONCE", "SMALLER", "STANDARD", "Step", "planned"]

BUDGETS = (1_000, 3_000, 10_000)
SMALLER, MOST = BUDGETS[1:]
GROWN = (1_000, 3_000, 4_800)
"""Of attacks that double 150 seeds: six rounds of them at most."""

Clones = tuple[tuple[Labels, tuple[int, ...]], ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One theft and the clones of it.

    Attributes:
        name: of the attack, in the table.
        attack: made from a seed.
        clones: budgets by kind of labels.
        pool: whose training images are asked about, or begin it.
        mirror: how clones learn from maps, where they do.
        compared: whether every seed makes it, at the smaller budget of the comparison.
    """

    name: str
    attack: Callable[[int], Attack]
    clones: Clones
    pool: str = "fashion_mnist"
    mirror: Mirror | None = None
    compared: bool = False

    @property
    def budget(self) -> int:
        """Queries of the theft."""
        return max(most for _, budgets in self.clones for most in budgets)


STANDARD, ONCE, FRESH = "knockoff", "composite", "composite (new in every epoch)"
STEPS = (
    Step(
        STANDARD,
        lambda seed: Knockoff(seed=seed),
        (("soft", BUDGETS), ("hard", BUDGETS)),
        compared=True,
    ),
    Step(
        ONCE,
        lambda seed: Composite(seed=seed),
        (("soft", (MOST,)), ("hard", BUDGETS)),
        compared=True,
    ),
    Step(
        FRESH,
        lambda seed: Composite(per_epoch=MOST // 10, seed=seed),
        (("hard", (MOST,)),),
        compared=True,
    ),
    Step("jbda", lambda seed: Jbda(step="strong", seed=seed), (("soft", GROWN),), pool="mnist"),
    Step(
        "jbda-tr",
        lambda seed: JbdaTargeted(step="strong", seed=seed),
        (("soft", GROWN),),
        pool="mnist",
    ),
    Step(
        "knockoff (adaptive)",
        lambda seed: Knockoff(strategy="adaptive", seed=seed),
        (("soft", (BUDGETS[0], SMALLER)),),
    ),
    Step(
        "attribution (lambda 1)",
        lambda seed: Attribution(seed=seed),
        (("soft", (BUDGETS[0], SMALLER)),),
        mirror=Mirror(1.0, "grad-cam"),
    ),
    Step(
        "composite (3 parts)", lambda seed: Composite(parts=3, seed=seed), (("hard", (SMALLER,)),)
    ),
)


def planned(seeds: int) -> Iterator[tuple[Step, int]]:
    """Every step of the first seed, then what is compared of the others."""
    yield from ((step, 0) for step in STEPS)
    for seed in range(1, seeds):
        for step in STEPS:
            kept = tuple(
                (labels, (SMALLER,)) for labels, budgets in step.clones if SMALLER in budgets
            )
            if step.compared and kept:
                yield replace(step, clones=kept), seed

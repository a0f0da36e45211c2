"""Several add-ons around one attack: in order, and refused before a query where they make none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from attack_client.adaptive.accounts import Accounts
from attack_client.adaptive.contract import (
    PLAIN,
    AddOn,
    Answering,
    Asking,
    Harvest,
    Knowledge,
    Run,
    Seam,
    Training,
    Tuition,
)
from attack_client.adaptive.registry import make
from attack_client.adaptive.spec import Spec
from attack_client.contract import Attack, Oracle, Pool
from attack_client.errors import AdaptationError

__all__ = ["Adaptations"]


@dataclass(frozen=True, slots=True)
class Adaptations:
    """Add-ons in the order given: the first stands next to the attack, the last to the victim.

    Attributes:
        add_ons: what works.
        specs: what was asked for, one each.
    """

    add_ons: tuple[AddOn, ...] = ()
    specs: tuple[Spec, ...] = ()

    @classmethod
    def of(cls, given: Iterable[Spec | str], *, seed: int = 0) -> Adaptations:
        """From specifications, or from texts like ``repeat-averaging:n=3``.

        Raises:
            AdaptationError: an add-on is unknown or refuses an option, or they do not go together.
        """
        specs = tuple(one if isinstance(one, Spec) else Spec.parse(one) for one in given)
        add_ons = tuple(make(spec, seed=seed) for spec in specs)
        _refuse_nonsense(add_ons)
        return cls(add_ons, specs)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.add_ons)

    def title(self, attack: str) -> str:
        """What reports call ``attack`` under these add-ons: ``knockoff+recover``."""
        titles = (
            spec.title(add_on.untold) for spec, add_on in zip(self.specs, self.add_ons, strict=True)
        )
        return "+".join([attack, *titles])

    @property
    def accounts(self) -> Accounts | None:
        """The accounts that the attack is shared out among, where it is."""
        return next((each for each in self.add_ons if isinstance(each, Accounts)), None)

    @property
    def seams(self) -> frozenset[Seam]:
        """Where in a theft they work."""
        return frozenset(add_on.seam for add_on in self.add_ons)

    @property
    def per_image(self) -> int:
        """Queries that one image of the attack costs."""
        return prod(add_on.per_image for add_on in self._asking)

    @property
    def needs_defense(self) -> bool:
        """Whether any of them must be told what the victim's defense is."""
        return any(add_on.needs_defense for add_on in self.add_ons)

    @property
    def takes_shadow(self) -> bool:
        """Whether any of them can make use of a shadow service."""
        return any(add_on.takes_shadow for add_on in self.add_ons)

    def images(self, budget: int) -> int:
        """Images that ``budget`` queries, checked, ask about: the attack's and add-ons' own."""
        found, left = 0, budget
        for add_on in reversed(self._asking):
            given = add_on.leaves(left)
            found += left - given * add_on.per_image
            left = given
        return found + left

    def check(
        self,
        *,
        labels: Sequence[str],
        budgets: Sequence[int],
        pool: int,
        known: bool = False,
        shadow: bool = False,
    ) -> None:
        """Refuse what cannot work, before anything is paid for.

        Args:
            labels: what clones learn from, ``soft``, ``hard`` or both.
            budgets: queries, each the size of a prefix.
            pool: images in the surrogate pool.
            known: whether the victim's defense is given as a function.
            shadow: whether there is a shadow service.

        Raises:
            AdaptationError: says which add-on lacks what.
        """
        for add_on in self.add_ons:
            if add_on.needs_soft and "hard" in labels:
                raise AdaptationError(
                    f"{add_on.kind} changes nothing about hard labels: ask for --labels soft"
                )
            if add_on.needs_defense and not (known or (shadow and add_on.takes_shadow)):
                instead = ", or a service with --shadow-url" if add_on.takes_shadow else ""
                raise AdaptationError(
                    f"{add_on.kind} must know the victim's defense: name a function with "
                    f"--known-defense{instead}"
                )
            if isinstance(add_on, Training) and add_on.needs_unasked:
                asked = self.images(max(budgets))
                if asked >= pool:
                    raise AdaptationError(
                        f"{add_on.kind} learns from images that were not asked about, and a "
                        f"budget of {max(budgets)} leaves none of the pool's {pool}"
                    )
        if known and not self.needs_defense:
            raise AdaptationError("--known-defense is given, but no add-on makes use of it")
        if shadow and not self.takes_shadow:
            raise AdaptationError("--shadow-url is given, but no add-on makes use of it")
        for budget in budgets:
            self._check_budget(budget, pool)

    def _check_budget(self, budget: int, pool: int) -> None:
        """Each add-on has what those between it and the victim leave of the budget."""
        left = budget
        for add_on in reversed(self._asking):
            cost = add_on.per_image
            have = f"the budget of {budget}" if left == budget else f"{left} of the budget {budget}"
            if left < cost:
                raise AdaptationError(
                    f"every image costs {cost} queries under {add_on.kind}, more than {have}"
                )
            if left % cost:
                raise AdaptationError(
                    f"every image costs {cost} queries under {add_on.kind}, and {have} is not "
                    "a multiple of that: choose another --budget"
                )
            add_on.check(left, pool)
            left = add_on.leaves(left)

    def adapt(self, attack: Attack) -> Attack:
        """``attack`` asking through the asking add-ons; itself where there are none."""
        asking = self._asking
        if not asking:
            return attack

        class Adapted(Attack):
            """An attack of the same kind; its configuration names the add-ons, too."""

            kind: ClassVar[str] = attack.kind
            # Whoever asks several times for an image wants several answers to it.
            repeats = attack.repeats or any(add_on.per_image > 1 for add_on in asking)
            explains: ClassVar[bool] = attack.explains

            async def run(self, oracle: Oracle, pool: Pool) -> None:
                run: Run = attack.run
                for add_on in asking:
                    run = partial(add_on.run, run)
                await run(oracle, pool)

            def __repr__(self) -> str:
                return " via ".join(map(repr, [attack, *asking]))

        return Adapted()

    def gather(self, images: NDArray[np.uint8], answers: NDArray[np.float32]) -> Harvest:
        """What the attack was told, before anything is made of it.

        Args:
            images: ``(N, C, H, W)`` uint8, as they were asked.
            answers: ``(N, K)`` float32, as they were answered.
        """
        harvest = Harvest.of(images, answers)
        for asking in reversed(self._asking):
            harvest = asking.gather(harvest)
        return harvest

    def harvest(
        self, images: NDArray[np.uint8], answers: NDArray[np.float32], knowledge: Knowledge
    ) -> Harvest:
        """What a clone learns from, of a prefix of the transfer set.

        Args:
            images: ``(N, C, H, W)`` uint8, as they were asked.
            answers: ``(N, K)`` float32, as they were answered.
            knowledge: what the attacker has beside them.

        Raises:
            AdaptationError: an add-on cannot work on these answers.
        """
        harvest = self.gather(images, answers)
        for add_on in self.add_ons:
            if isinstance(add_on, Answering):
                harvest = add_on.apply(harvest, knowledge)
        return harvest

    def tuition(self, knowledge: Knowledge, plain: Tuition = PLAIN) -> Tuition:
        """How a clone learns from it, which without add-ons is ``plain``.

        Raises:
            AdaptationError: what an add-on needs is not there.
        """
        tuition = plain
        for add_on in self.add_ons:
            if isinstance(add_on, Training):
                tuition = add_on.teach(tuition, knowledge)
        return tuition

    @property
    def _asking(self) -> tuple[Asking, ...]:
        return tuple(add_on for add_on in self.add_ons if isinstance(add_on, Asking))


def _refuse_nonsense(add_ons: Sequence[AddOn]) -> None:
    for position, add_on in enumerate(add_ons):
        for before in add_ons[:position]:
            if add_on.kind == before.kind:
                raise AdaptationError(f"{add_on.kind} is given twice")
            if isinstance(add_on, Training) and add_on.replaces and before.seam is Seam.TRAINING:
                raise AdaptationError(
                    f"{add_on.kind} replaces what a clone minimises, {before.kind} included: "
                    "give it first"
                )
            if add_on.undoes and add_on.undoes == before.undoes:
                raise AdaptationError(
                    f"{before.kind} and {add_on.kind} are two ways to do one thing: choose one"
                )
            if add_on.seam < before.seam:
                raise AdaptationError(
                    f"{add_on.kind} works before {before.kind} does: give it first"
                )

"""The training objectives that a recipe may name, and the networks each of them trains."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

from torch import nn

from defenses.errors import OptionError
from defenses.options import coerce
from defenses.training.adaptive_misinformation import AdaptiveMisinformation
from defenses.training.ensemble_of_diverse_models import EnsembleOfDiverseModels
from defenses.training.isolation_induction import IsolationInduction
from defenses.training.nasty import Nasty
from defenses.training.outlier_exposure import OutlierExposure
from defenses.training.sparse_teacher import AdversarialSparseTeacher, SparseTeacher
from intaglio.base_network import check_choice
from intaglio.errors import RecipeError
from intaglio.recipe import Ensemble, ObjectiveChoice, Recipe
from models.training.cross_entropy import CrossEntropy
from models.training.objective import Objective

__all__ = ["OBJECTIVES", "Trainable", "trainable_of"]


@dataclass(frozen=True, slots=True)
class Trainable:
    """An objective and the roles of the networks it is built from, all of one architecture.

    Attributes:
        objective: called with one network per role, by keyword, and its options.
        roles: of the networks, the evaluated one first.
        untrained: networks that the objective is given after those, with their first weights,
            and that are neither trained nor part of the bundle.
        base: whether the objective is given, last, the network called ``base``: a plain one of
            the same architecture, trained before and not changed.
        ensemble: whether the objective is given, first, the network called ``hash``, trained
            before and not changed, and after its roles the further members of the ensemble.
    """

    objective: type[Objective]
    roles: tuple[str, ...]
    untrained: tuple[str, ...] = ()
    base: bool = False
    ensemble: bool = False

    def trained(self, choice: ObjectiveChoice) -> tuple[str, ...]:
        """Roles of the networks that are trained, the evaluated one first."""
        if not self.ensemble:
            return self.roles
        members = (choice.ensemble or Ensemble()).members
        return (*self.roles, *(f"member-{number}" for number in range(1, members)))

    def check(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """``options`` as the objective's constructor takes them.

        Raises:
            RecipeError: an option is unknown or of a wrong type; names the key.
        """
        hints = get_type_hints(self.objective.__init__)
        known = [
            name
            for name, parameter in inspect.signature(self.objective).parameters.items()
            if parameter.kind is parameter.KEYWORD_ONLY
        ]
        checked: dict[str, Any] = {}
        for option, value in options.items():
            if option not in known:
                offered = f"there are {', '.join(known)}" if known else "there are none"
                raise RecipeError(
                    f"objective.options.{option}: {self.objective.kind} has no such option: "
                    f"{offered}"
                )
            try:
                checked[option] = coerce(option, value, hints[option])
            except OptionError as error:
                raise RecipeError(f"objective.options.{error}") from error
        return checked

    def build(self, networks: Mapping[str, nn.Module], choice: ObjectiveChoice) -> Objective:
        """The objective that ``choice`` says, over ``networks``, by role.

        Raises:
            RecipeError: an option is unknown, of a wrong type or out of range; names the key.
        """
        arguments = self.check(choice.options)
        before = ("hash",) if self.ensemble else ()
        after = ("base",) if self.base else ()
        given = (*before, *self.trained(choice), *self.untrained, *after)
        try:
            return self.objective(*(networks[role] for role in given), **arguments)
        except OptionError as error:
            raise RecipeError(f"objective.options.{error}") from error


OBJECTIVES: Mapping[str, Trainable] = {
    "plain": Trainable(CrossEntropy, ("victim",)),
    "am": Trainable(AdaptiveMisinformation, ("victim", "misinformation")),
    "nasty": Trainable(Nasty, ("victim",), base=True),
    "stt": Trainable(SparseTeacher, ("victim",), base=True),
    "ast": Trainable(AdversarialSparseTeacher, ("victim",), base=True),
    "edm": Trainable(EnsembleOfDiverseModels, ("victim",), ensemble=True),
    "ini": Trainable(IsolationInduction, ("victim",), untrained=("clone",)),
    "outlier-exposure": Trainable(OutlierExposure, ("victim",)),
}
"""Objectives by their name in a recipe."""


def trainable_of(recipe: Recipe) -> Trainable:
    """The objective that ``recipe`` names, its options and companions checked.

    Raises:
        RecipeError: there is no such objective, or it is not given what it needs; names the key.
    """
    choice = recipe.objective
    trainable = OBJECTIVES.get(choice.kind)
    if trainable is None:
        raise RecipeError(
            f"objective.kind: there is no objective {choice.kind!r}: there are "
            f"{', '.join(OBJECTIVES)}"
        )
    trainable.check(choice.options)
    check_choice(
        recipe,
        needs_base=trainable.base,
        needs_paired=trainable.objective.needs_paired,
        ensemble=trainable.ensemble,
    )
    return trainable

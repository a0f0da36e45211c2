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
from defenses.training.isolation_induction import IsolationInduction
from defenses.training.nasty import Nasty
from defenses.training.outlier_exposure import OutlierExposure
from defenses.training.sparse_teacher import AdversarialSparseTeacher, SparseTeacher
from models.errors import RecipeError
from models.training.cross_entropy import CrossEntropy
from models.training.objective import Objective

__all__ = ["OBJECTIVES", "Trainable"]


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
    """

    objective: type[Objective]
    roles: tuple[str, ...]
    untrained: tuple[str, ...] = ()
    base: bool = False

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

    def build(self, networks: Mapping[str, nn.Module], options: Mapping[str, Any]) -> Objective:
        """The objective over ``networks``, by role.

        Raises:
            RecipeError: an option is unknown, of a wrong type or out of range; names the key.
        """
        arguments = self.check(options)
        given = (*self.roles, *self.untrained, *(("base",) if self.base else ()))
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
    "ini": Trainable(IsolationInduction, ("victim",), untrained=("clone",)),
    "outlier-exposure": Trainable(OutlierExposure, ("victim",)),
}
"""Objectives by their name in a recipe."""

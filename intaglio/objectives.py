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
    """

    objective: type[Objective]
    roles: tuple[str, ...]

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
        try:
            return self.objective(*(networks[role] for role in self.roles), **arguments)
        except OptionError as error:
            raise RecipeError(f"objective.options.{error}") from error


OBJECTIVES: Mapping[str, Trainable] = {
    "plain": Trainable(CrossEntropy, ("victim",)),
    "am": Trainable(AdaptiveMisinformation, ("victim", "misinformation")),
}
"""Objectives by their name in a recipe."""

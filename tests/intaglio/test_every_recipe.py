"""A dry run of every recipe that comes with the program.

Recipes that build the same networks for images of the same shape, with the same objective, forms
and combiner, differ in numbers that a step on noise does not tell apart: the first one is tried.
"""

from __future__ import annotations

from collections.abc import Hashable

import pytest

from intaglio.dry_run import dry_run
from intaglio.outlook import outlook_of
from intaglio.recipe import load_recipe, shipped_recipes
from models.training.schedule import drop_beyond


def what_is_built(name: str) -> Hashable:
    """All that decides whether a step can be taken; of numbers, whether they are zero."""
    recipe = load_recipe(name)
    outlook, plan = outlook_of(recipe, data_root=None), recipe.plan
    options = {
        key: value if isinstance(value, str | bool) else bool(value)
        for key, value in recipe.objective.options.items()
    }
    return (
        recipe.architecture.name, *sorted(recipe.architecture.arguments.items()), outlook.shape,
        outlook.classes, recipe.objective.kind, *sorted(options.items()), plan.combiner,
        plan.precision, plan.channels_last, plan.optimiser.kind,
    )  # fmt: skip


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_drop_of_a_learning_rate_comes_while_there_are_epochs(name: str) -> None:
    plan = load_recipe(name).plan
    assert drop_beyond(plan.schedule, plan.epochs) is None


GROUPS: dict[Hashable, list[str]] = {}
for shipped in shipped_recipes():
    GROUPS.setdefault(what_is_built(shipped), []).append(shipped)


@pytest.mark.parametrize("alike", GROUPS.values(), ids=lambda alike: alike[0])
def test_a_dry_run_takes_a_step(alike: list[str]) -> None:
    # A small ensemble: its further members are more of the same.
    fewer = ["objective.ensemble.members=2"] if "edm" in alike[0] else []
    tried = dry_run(load_recipe(alike[0], fewer))
    assert tried.losses
    assert tried.parameters["victim"] > 9_000
    assert tried.outlook.shape[0] in {1, 3}

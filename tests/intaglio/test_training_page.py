"""The page on training shows recipes that load, and lists every option of a plan."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from intaglio.commands.train import train
from intaglio.objectives import OBJECTIVES
from intaglio.recipe import load_recipe, shipped_recipes
from models.training.plan import Optimiser, Plan, Schedule

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
PLAN = PAGE.partition("## The plan")[2].partition("## Several")[0]
TEAMS = PAGE.partition("## Several")[2]


def test_every_option_of_a_plan_is_listed() -> None:
    for name in Plan.model_fields:
        assert f"| `{name}` |" in PLAN, name
    for choice in (*get_args(Optimiser), *get_args(Schedule)):
        kind = choice.model_fields["kind"].default
        (options,) = re.findall(rf"\{{kind: {kind}([^}}]*)\}}", PLAN)
        listed = {word for word in re.split(r"[,\s]+", options) if word}
        assert listed == choice.model_fields.keys() - {"kind"}, kind


@pytest.mark.parametrize("number", range(3))
def test_every_example_is_a_recipe(number: int, tmp_path: Path) -> None:
    example = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[number]
    path = tmp_path / "mine.yaml"
    path.write_text(example)
    if "rows:" in example:
        assert load_recipe(f"{path}/long").plan.epochs == 40
    else:
        assert load_recipe(str(path)).plan.epochs > 0


def test_every_objective_is_in_the_table_of_what_it_allows() -> None:
    for kind, trainable in OBJECTIVES.items():
        (row,) = [line for line in TEAMS.splitlines() if re.match(rf"\| .*`{kind}`", line)]
        _, _, bits, team, _ = (cell.strip() for cell in row.split("|"))
        assert (bits == "yes") == trainable.objective.mixed_precision, kind
        assert team.startswith("yes") == trainable.objective.mean_over_samples, kind


def test_every_shipped_family_and_command_line_option_is_listed() -> None:
    patterns = [p.replace("*", "") for p in re.findall(r"`([a-z0-9-]+[/*][^`]*)`", PAGE)]
    for name in shipped_recipes():
        assert any(name.startswith(pattern) for pattern in patterns), name
    for option in train.params:
        flag = max(option.opts, key=len)
        if flag.startswith("--"):
            assert flag in PAGE, flag

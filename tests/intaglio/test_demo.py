"""The demo's table before anything is trained."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from defenses.registry import TRAINED_IN, kinds
from intaglio.demo import BUDGETS, Demo
from intaglio.demo_defenses import DEFENSES, MORE_DEFENSES, expected_minutes, served_as
from intaglio.recipe import load_recipe
from models.console import UNBOUNDED
from server.settings import ModelSettings, Settings


def test_every_defense_of_the_longer_demo_can_be_served_under_a_name_of_its_own() -> None:
    names = [*DEFENSES, *MORE_DEFENSES]
    models = {served_as(name): ModelSettings() for name in names}
    assert len(models) == len(names)
    assert set(Settings(model_dir=Path(), models=models).models) == set(models)


def test_every_link_of_the_demo_is_a_defense() -> None:
    chains = [chain for _, chain in (*DEFENSES.values(), *MORE_DEFENSES.values())]
    assert {link["kind"] for chain in chains for link in chain} <= set(kinds())


def test_the_longer_demo_has_every_defense_there_is() -> None:
    assert {*kinds(), *TRAINED_IN} <= {*DEFENSES, *MORE_DEFENSES}
    for bundle, _ in MORE_DEFENSES.values():
        assert load_recipe(bundle).data.train == "digits"


@pytest.mark.parametrize(
    ("name", "budgets"), [("mad", BUDGETS), ("dd-s", (500,)), ("deepdefense", (500,))]
)
def test_what_searches_for_every_query_is_asked_less(
    name: str, budgets: tuple[int, ...], tmp_path: Path
) -> None:
    demo = Demo(
        out=tmp_path, defenses=MORE_DEFENSES, splits=1, budgets=BUDGETS, console=Console(quiet=True)
    )
    assert demo._budgets(name) == budgets
    few = Demo(
        out=tmp_path, defenses=MORE_DEFENSES, splits=1, budgets=(100, 300), console=demo.console
    )
    assert few._budgets(name) == (100, 300)


def test_the_expected_time_grows_with_what_is_done() -> None:
    short = expected_minutes(DEFENSES, 1)
    assert 1 <= short < expected_minutes({**DEFENSES, **MORE_DEFENSES}, 1)
    assert expected_minutes(DEFENSES, 5) > 4 * short


def test_a_step_begins_with_a_line_that_a_log_can_hold(tmp_path: Path) -> None:
    log = StringIO()
    console = Console(file=log, width=UNBOUNDED)
    demo = Demo(out=tmp_path, defenses={}, splits=1, budgets=BUDGETS, console=console)
    demo._begin("1  Train the victims")
    (line,) = log.getvalue().splitlines()
    assert line.startswith("1  Train the victims")
    assert len(line) <= 80

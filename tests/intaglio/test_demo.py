"""The demo's table before anything is trained."""

from __future__ import annotations

from pathlib import Path

from defenses.registry import kinds
from intaglio.demo import DEFENSES, MORE_DEFENSES, served_as
from server.settings import ModelSettings, Settings


def test_every_defense_of_the_longer_demo_can_be_served_under_a_name_of_its_own() -> None:
    names = [*DEFENSES, *MORE_DEFENSES]
    models = {served_as(name): ModelSettings() for name in names}
    assert len(models) == len(names)
    assert set(Settings(model_dir=Path(), models=models).models) == set(models)


def test_every_link_of_the_demo_is_a_defense() -> None:
    chains = [chain for _, chain in (*DEFENSES.values(), *MORE_DEFENSES.values())]
    assert {link["kind"] for chain in chains for link in chain} <= set(kinds())

"""Attacks by name, ours and others'."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from attack_client.attacks import registry
from attack_client.cli import attack
from attack_client.contract import Attack, Oracle, Pool
from attack_client.errors import AttackError


class Brightest(Attack):
    """A plug-in, which asks about
    the brightest first.

    More of it.
    """

    kind = "brightest"

    def __init__(
        self, *, floor: float = 0.5, sides: tuple[int, ...] = (), last: int | None = None
    ) -> None:
        if isinstance(floor, float) and floor < 0:
            raise ValueError("floor must not be negative")
        self._floor = floor
        del sides, last

    async def run(self, oracle: Oracle, pool: Pool) -> None:
        """Nothing."""


@pytest.fixture
def announce(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("brightest", f"{__name__}:Brightest", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: EntryPoints([point]))


def test_a_seed_and_options_make_an_attack() -> None:
    assert repr(registry.make("knockoff", seed=7)) == "knockoff(seed=7)"
    assert repr(registry.make("knockoff", seed=7, options={"seed": 8})) == "knockoff(seed=8)"


@pytest.mark.usefixtures("announce")
def test_an_installed_attack_joins_by_entry_point() -> None:
    assert list(registry.kinds()) == [*registry.BUILT_IN, "brightest"]
    assert list(registry.BUILT_IN) == sorted(registry.BUILT_IN)
    made = registry.make("brightest", seed=7, options={"floor": 0.25})
    assert repr(made) == "brightest(floor=0.25)"
    with pytest.raises(AttackError, match="brightest: floor must not be negative"):
        registry.make("brightest", seed=0, options={"floor": -1.0})


@pytest.mark.usefixtures("announce")
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"floor": "lots"}, "brightest: floor: input should be a valid number, not 'lots'"),
        ({"floor": True}, "brightest: floor: input should be a valid number, not True"),
        ({"sides": [1, "two"]}, "brightest: sides: input should be a valid integer"),
        ({"last": 0.5}, "brightest: last: "),
        ({"flor": 1}, "brightest has no option 'flor': there are floor, sides, last"),
    ],
)
def test_an_option_is_what_its_annotation_says(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(AttackError, match=sentence):
        registry.make("brightest", seed=0, options=options)


@pytest.mark.usefixtures("announce")
@pytest.mark.parametrize(
    "options",
    [{"floor": 1}, {"sides": [1, 2]}, {"last": None}, {"floor": np.float32(1)}, {"sides": {1, 2}}],
)
def test_what_yaml_says_of_a_type_will_do(options: dict[str, Any]) -> None:
    registry.make("brightest", seed=0, options=options)


@pytest.mark.usefixtures("announce")
def test_an_annotation_that_cannot_be_read_leaves_it_to_the_constructor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    annotations = Brightest.__init__.__annotations__
    monkeypatch.setitem(annotations, "floor", "NoSuchType")
    registry.make("brightest", seed=0, options={"floor": "lots"})
    monkeypatch.setitem(annotations, "floor", Pool.__init__)
    registry.make("brightest", seed=0, options={"floor": "lots"})


def test_help_of_a_plug_in_has_its_words_and_options(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("brightest", f"{__name__}:Brightest", registry.GROUP)
    broken = EntryPoint("broken", "no_such_module:Attack", registry.GROUP)
    points: list[EntryPoint] = [point]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: EntryPoints(points))
    monkeypatch.setattr(registry, "entry_points", lambda group: EntryPoints(points))
    text = " ".join(CliRunner().invoke(attack, ["brightest", "--help"]).output.split())
    assert "A plug-in, which asks about the brightest first. Options: floor (0.5), sides" in text
    assert "last (none)." in text
    assert "More of it" not in text
    assert "Attack 'brightest'" in CliRunner().invoke(attack, ["--help"]).output
    points[:] = [broken]
    text = " ".join(CliRunner().invoke(attack, ["broken", "--help"]).output.split())
    assert "package. It cannot be loaded: No module named 'no_such_module'" in text
    assert "--budget" in text


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("knockoff", f"{__name__}:Brightest", "may not replace"),
        ("darkest", f"{__name__}:Brightest", "calls itself 'brightest'"),
        ("dict", "builtins:dict", "is not an attack"),
    ],
)
def test_an_entry_point_that_lies_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    points = EntryPoints([EntryPoint(name, value, registry.GROUP)])
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    with pytest.raises(AttackError, match=sentence):
        registry.kinds()


def test_unknown_names_are_answered_with_the_known() -> None:
    with pytest.raises(AttackError, match=r"there are attribution, .*, knockoff"):
        registry.make("nockoff", seed=0)
    with pytest.raises(AttackError, match="no option 'batch'"):
        registry.make("knockoff", seed=0, options={"batch": 3})
    with pytest.raises(AttackError, match="seed must be at least 0"):
        registry.make("knockoff", seed=-1)

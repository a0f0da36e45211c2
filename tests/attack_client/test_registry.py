"""Attacks by name, ours and others'."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints

import pytest

from attack_client.attacks import registry
from attack_client.contract import Attack, Oracle, Pool
from attack_client.errors import AttackError


class Brightest(Attack):
    """A plug-in."""

    kind = "brightest"

    def __init__(self, *, floor: float = 0.5) -> None:
        if floor < 0:
            raise ValueError("floor must not be negative")
        self._floor = floor

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
        registry.make("brightest", seed=0, options={"floor": -1})


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

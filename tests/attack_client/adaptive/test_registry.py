"""Add-ons by name, and texts that name them."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints

import pytest

from attack_client.adaptive import registry
from attack_client.adaptive.contract import Answering, Harvest, Knowledge
from attack_client.adaptive.spec import Spec
from attack_client.errors import AdaptationError


class Reverse(Answering):
    """A plug-in."""

    kind = "reverse"

    def __init__(self, *, seed: int = 0, times: int = 1) -> None:
        if times < 1:
            raise ValueError("times must be at least 1")
        self.seed, self.times = seed, times

    def apply(self, harvest: Harvest, knowledge: Knowledge) -> Harvest:
        return harvest


def test_a_text_names_an_add_on_and_its_options() -> None:
    spec = Spec.parse("filter-confidence:least=0.7,mode=drop")
    assert spec == Spec("filter-confidence", {"least": 0.7, "mode": "drop"})
    assert spec.title() == "filter-confidence(least=0.7, mode=drop)"
    assert spec.title({"least"}) == "filter-confidence(mode=drop)"
    assert Spec.parse("sharpen").title() == "sharpen"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "names no add-on"),
        (":n=3", "names no add-on"),
        ("sharpen:0.5", "'0.5' is not option=value"),
        ("sharpen:=0.5", "'=0.5' is not option=value"),
        ("sharpen:a=1,a=2", "a is given twice"),
        ("sharpen:a=[", "is not YAML"),
    ],
)
def test_a_text_that_names_none_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(AdaptationError, match=sentence):
        Spec.parse(text)


def test_options_make_an_add_on() -> None:
    made = registry.make(Spec("filter-confidence", {"least": 0.7}), seed=3)
    assert repr(made) == "filter-confidence(least=0.7, keep=None, mode='drop')"


def test_unknown_names_are_answered_with_the_known() -> None:
    with pytest.raises(AdaptationError, match=r"no add-on 'sharp': there are .*sharpen"):
        registry.make(Spec("sharp"), seed=0)
    with pytest.raises(AdaptationError, match="no option 'n': there are temperature"):
        registry.make(Spec("sharpen", {"n": 3}), seed=0)
    with pytest.raises(AdaptationError, match="sharpen: temperature must be"):
        registry.make(Spec("sharpen", {"temperature": 2}), seed=0)
    with pytest.raises(AdaptationError, match="sharpen: "):
        registry.make(Spec("sharpen", {"temperature": "much"}), seed=0)


def test_an_installed_add_on_joins_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("reverse", f"{__name__}:Reverse", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: EntryPoints([point]))
    assert repr(registry.make(Spec("reverse"), seed=7)) == "reverse(seed=7, times=1)"
    with pytest.raises(AdaptationError, match="reverse: times must be at least 1"):
        registry.make(Spec("reverse", {"times": 0}), seed=7)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("sharpen", f"{__name__}:Reverse", "may not replace"),
        ("forward", f"{__name__}:Reverse", "calls itself 'reverse'"),
        ("dict", "builtins:dict", "is not an add-on"),
    ],
)
def test_an_entry_point_that_lies_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    points = EntryPoints([EntryPoint(name, value, registry.GROUP)])
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    with pytest.raises(AdaptationError, match=sentence):
        registry.kinds()

"""From what an operator writes to a chain, and the sentence where that fails."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from defenses.adaptive_misinformation import AdaptiveMisinformation
from defenses.contract import Material
from defenses.errors import (
    DefenseError,
    MissingRole,
    OptionError,
    OrderError,
    PluginError,
    UnknownDefense,
)
from defenses.registry import BUILT_IN, build_chain, kinds, required_roles
from tests.defenses.toys import answers, card, images, material

CLASSES = 10


def specs(text: str) -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = yaml.safe_load(text)
    return loaded


def test_a_chain_as_written() -> None:
    chain = build_chain(
        specs(
            """
            - {kind: am, benign_cost: 0.01}
            - {kind: reverse-sigmoid}
            - {kind: top-k, k: 3}
            - {kind: rounding, decimals: 2}
            """
        ),
        material(CLASSES),
    )
    assert repr(chain) == (
        "Chain([AdaptiveMisinformation(threshold=0.6, steepness=1000.0), "
        "ReverseSigmoid(beta=0.2, gamma=0.2), TopK(k=3), Rounding(decimals=2)])"
    )
    outcome = chain.run(answers(CLASSES, images(16)))
    assert not outcome.failed.any()


def test_no_specs_make_the_empty_chain() -> None:
    assert build_chain([], material(CLASSES)).name == "none"


def test_every_kind_is_filed_under_its_own_name() -> None:
    assert {kind: defense.kind for kind, defense in BUILT_IN.items()} == {k: k for k in BUILT_IN}
    assert dict(kinds()).keys() >= BUILT_IN.keys()
    assert list(BUILT_IN) == sorted(BUILT_IN)


def test_yaml_values_become_the_types_of_the_constructor() -> None:
    written = specs("[{kind: am, threshold: 1}, {kind: top-k, k: '3'}]")
    am, top_k = build_chain(written, material(CLASSES)).links
    assert am.options() == {"threshold": 1.0, "steepness": 1000.0}
    assert isinstance(am.options()["threshold"], float)
    assert top_k.options() == {"k": 3}


WRONG: dict[str, tuple[str, type[DefenseError], str]] = {
    "unknown-kind": (
        "[{kind: label-only}, {kind: topk}]",
        UnknownDefense,
        "defenses[1].kind: there is no defense 'topk': there are am, dd-i, dd-s, deepdefense, "
        "grad2, label-only, mad, modelguard-s, modelguard-w, reverse-sigmoid, rounding, "
        "stingy, top-k",
    ),
    "trained-in": (
        "[{kind: edm}, {kind: top-k, k: 2}]",
        UnknownDefense,
        "defenses[0].kind: edm is not a link of a chain but a way to train weights: serve a bundle "
        "that was trained so, and leave this entry out",
    ),
    "no-kind": ("[{k: 3}]", OptionError, "defenses[0].kind: every defense needs a kind"),
    "no-mapping": (
        "[top-k]",
        OptionError,
        "defenses[0]: must be a mapping with a kind and options, not 'top-k'",
    ),
    "unknown-option": (
        "[{kind: top-k, k: 3, decimals: 2}]",
        OptionError,
        "defenses[0].decimals: top-k has no such option: it has k",
    ),
    "unknown-option-of-am": (
        "[{kind: am, tau: 0.5}]",
        OptionError,
        "defenses[0].tau: am has no such option: it has benign_cost, skip, steepness, threshold",
    ),
    "no-options-at-all": (
        "[{kind: label-only, k: 3}]",
        OptionError,
        "defenses[0].k: label-only has no such option: it has none",
    ),
    "a-network-is-no-option": (
        "[{kind: am, threshold: 0.5, misinformation: mine.safetensors}]",
        OptionError,
        "defenses[0].misinformation: am has no such option: "
        "it has benign_cost, skip, steepness, threshold",
    ),
    "missing-option": (
        "[{kind: reverse-sigmoid}, {kind: top-k}]",
        OptionError,
        "defenses[1].k: top-k needs this option",
    ),
    "wrong-type": (
        "[{kind: top-k, k: many}]",
        OptionError,
        "defenses[0].k: input should be a valid integer, unable to parse string as an integer, "
        "not 'many'",
    ),
    "fraction": (
        "[{kind: top-k, k: 2.5}]",
        OptionError,
        "defenses[0].k: input should be a valid integer, got a number with a fractional part, "
        "not 2.5",
    ),
    "boolean": (
        "[{kind: top-k, k: yes}]",
        OptionError,
        "defenses[0].k: input should be a valid integer, not True",
    ),
    "nan": (
        "[{kind: reverse-sigmoid, beta: .nan}]",
        OptionError,
        "defenses[0].beta: input should be a finite number, not nan",
    ),
    "out-of-range": (
        "[{kind: label-only}, {kind: rounding, decimals: 9}]",
        OptionError,
        "defenses[1].decimals: must be between 0 and 6, not 9",
    ),
    "out-of-range-for-this-card": (
        "[{kind: top-k, k: 11}]",
        OptionError,
        "defenses[0].k: must be at most 10, the number of classes, not 11",
    ),
    "benign-cost": (
        "[{kind: am, benign_cost: 1}]",
        OptionError,
        "defenses[0].benign_cost: must be a share of answers between 0 and 0.5 "
        "(0.01 is one point), not 1.0",
    ),
    "budget": (
        "[{kind: mad, epsilon: 2.5}]",
        OptionError,
        "defenses[0].epsilon: must be an L1 distance between 0 and 2, not 2.5",
    ),
    "surrogate": (
        "[{kind: mad, epsilon: 1, surrogate: random}]",
        OptionError,
        "defenses[0].surrogate: must be uniform or network, not 'random'",
    ),
    "all-weights-of-nothing": (
        "[{kind: mad, epsilon: 1, jacobian: full}]",
        OptionError,
        "defenses[0].jacobian: full differentiates a network, so it needs surrogate: network",
    ),
    "oracle": (
        "[{kind: mad, epsilon: 1, oracle: best}]",
        OptionError,
        "defenses[0].oracle: input should be 'extreme' or 'argmax', not 'best'",
    ),
    "order": (
        "[{kind: label-only}, {kind: am, threshold: 0.5}]",
        OrderError,
        "defenses[1]: am must not follow label-only (defenses[0]): am decides from what the "
        "victim said, so what label-only cut off would leave after all; put am before label-only",
    ),
}


@pytest.mark.parametrize(("written", "error", "sentence"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_said_in_one_sentence_that_begins_with_the_place(
    written: str, error: type[DefenseError], sentence: str
) -> None:
    with pytest.raises(error) as refused:
        build_chain(specs(written), material(CLASSES))
    assert str(refused.value) == sentence


def test_a_missing_network_is_named_with_the_way_to_supply_it() -> None:
    with pytest.raises(MissingRole) as refused:
        build_chain([{"kind": "am", "threshold": 0.5}], Material(card(CLASSES), {}))
    assert str(refused.value) == (
        "defenses[0]: am needs a network of role 'misinformation', which the bundle toy/1 does "
        "not hold: serve a bundle that does, or name one under roles "
        "(misinformation: NAME/VERSION#misinformation)"
    )


def test_a_network_that_only_some_options_need_is_missed_only_by_those() -> None:
    bare = Material(card(CLASSES), {})
    assert build_chain([{"kind": "mad", "epsilon": 1.0}], bare).name == "mad"
    with pytest.raises(MissingRole, match=r"defenses\[0\]: mad needs .* role 'surrogate'"):
        build_chain([{"kind": "mad", "epsilon": 1.0, "surrogate": "network"}], bare)


def test_roles_are_known_before_any_network_is_loaded() -> None:
    assert required_roles([]) == frozenset()
    assert required_roles([{"kind": "top-k"}]) == frozenset()
    assert required_roles([{"kind": "am"}, {"kind": "top-k"}]) == {"misinformation"}
    assert required_roles([{"kind": "mad", "epsilon": 1.0}]) == frozenset()
    assert required_roles([{"kind": "mad", "surrogate": "network"}]) == {"surrogate"}
    with pytest.raises(UnknownDefense, match=r"defenses\[0\]\.kind"):
        required_roles([{"kind": "nothing"}])


PLUGIN = """
from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

from torch import nn

from defenses import Answers, Defense, OptionError, Queries, Stage


class Flatten(Defense):
    kind: ClassVar[str] = "flatten"
    stage: ClassVar[Stage] = Stage.PERTURB
    roles: ClassVar[tuple[str, ...]] = ("member-0",)

    def __init__(self, *, member_0: nn.Module, share: float, how: Literal["lin", "log"]) -> None:
        self.network, self.share, self.how = member_0, share, how

    def apply(self, queries: Queries, answers: Answers) -> Answers:
        given = answers.probabilities
        blend = (1 - self.share) * given + self.share / given.shape[1]
        return replace(answers, probabilities=blend)

    def options(self):
        return {"share": self.share, "how": self.how}


class Stranger:
    kind = "stranger"
"""


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package installed beside ours; writing its entry points installs its defenses."""
    (tmp_path / "toy_plugin.py").write_text(PLUGIN)
    info = tmp_path / "toy_plugin-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-plugin\nVersion: 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield info / "entry_points.txt"
    sys.modules.pop("toy_plugin", None)


def install(entries: Path, *lines: str) -> None:
    entries.write_text("\n".join(["[intaglio.defenses]", *lines]) + "\n")


def test_an_installed_package_adds_a_defense(plugins: Path) -> None:
    install(plugins, "flatten = toy_plugin:Flatten")
    assert kinds()["flatten"].__name__ == "Flatten"
    spec = {"kind": "flatten", "share": "0.5", "how": "log"}
    assert required_roles([spec]) == {"member-0"}
    member = torch.nn.Identity()
    chain = build_chain([spec], Material(card(CLASSES), {"member-0": member}))
    assert repr(chain) == "Chain([Flatten(share=0.5, how='log')])"
    assert chain.links[0].network is member  # type: ignore[attr-defined]
    outcome = chain.run(answers(CLASSES, images(4)))
    assert not outcome.failed.any()
    with pytest.raises(OptionError, match=r"defenses\[0\]\.how: input should be 'lin' or 'log'"):
        build_chain([{**spec, "how": "exp"}], Material(card(CLASSES), {"member-0": member}))


def test_a_plug_in_cannot_take_a_name_of_ours(plugins: Path) -> None:
    install(plugins, "am = toy_plugin:Flatten")
    with pytest.raises(PluginError, match="calls itself 'am', which is a built-in defense"):
        kinds()
    with pytest.raises(PluginError, match="toy_plugin:Flatten"):
        build_chain([{"kind": "label-only"}], material(CLASSES))


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ("flat = toy_plugin:Flatten", "installed as 'flat' but its kind is 'flatten'"),
        ("stranger = toy_plugin:Stranger", "is not a subclass of Defense"),
        ("gone = toy_plugin:Gone", "cannot be imported"),
        ("gone = no_such_module:Gone", "cannot be imported"),
    ],
)
def test_a_plug_in_that_is_no_defense_harms_only_who_asks_for_it(
    plugins: Path, entry: str, sentence: str
) -> None:
    install(plugins, entry)
    with pytest.raises(PluginError, match=sentence):
        build_chain([{"kind": entry.split(maxsplit=1)[0]}], material(CLASSES))
    assert build_chain([{"kind": "label-only"}], material(CLASSES)).name == "label-only"


def test_two_plug_ins_of_one_name_are_refused(plugins: Path) -> None:
    install(plugins, "flatten = toy_plugin:Flatten")
    other = plugins.parent.parent / "other_plugin-1.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: other-plugin\nVersion: 1\n")
    install(other / "entry_points.txt", "flatten = other_plugin:Flatten")
    with pytest.raises(PluginError, match="both call themselves 'flatten'"):
        kinds()


def test_looked_up_options_are_no_constructor_parameters() -> None:
    import inspect

    for defense in kinds().values():
        # A network's parameter is no option: the option of its name may say which network.
        parameters = inspect.signature(defense).parameters.keys() - set(defense.roles)
        assert not set(defense.looked_up) & parameters
    assert AdaptiveMisinformation.looked_up == ("benign_cost",)

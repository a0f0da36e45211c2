"""DeepDefense of maps: DD-I, whose maps leave, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from defenses.chain import Chain
from defenses.contract import Answers, Output
from defenses.deep_defense_maps import DeepDefense, DeepDefenseMaps
from defenses.errors import OptionError
from defenses.explanations import Explainer
from defenses.label_only import LabelOnly
from defenses.registry import build_chain
from models.explain import Interpreter, build_interpreter
from models.victim import SingleVictim
from tests.defenses.misled import LAYERS, asked, toy
from tests.defenses.misled_maps import defended, every_way, explaining, left, maps_only
from tests.defenses.toys import images, material

LINKS = {"deepdefense": DeepDefense, "dd-i": DeepDefenseMaps}


class Fixed(Interpreter):
    """Makes maps that do not depend on the network."""

    name: ClassVar[str] = "fixed"

    def __call__(self, images: Tensor, classes: Tensor) -> Tensor:
        return images[:, 0]


def test_dd_i_changes_maps_and_no_probability() -> None:
    network = toy()
    queries = asked(network, 8)
    some = replace(queries, explain=torch.arange(8) % 2 == 0)
    options: dict[str, Any] = {"steps": 20, "rate": 0.02, "map_agreement": 0.5}
    both, only = defended(network, **options), maps_only(network, **options)
    assert both.covers == frozenset(Output)
    assert only.covers == {Output.ATTRIBUTIONS}
    said, shown = left(only, some)
    assert torch.equal(said, queries.victim)
    assert not shown[1::2].any()
    torch.testing.assert_close(shown[::2], left(both, some)[1][::2], atol=1e-6, rtol=1e-6)
    assert shown[::2].flatten(1).any(dim=1).sum() >= 2
    silent = only.apply(queries, Answers(queries.victim))
    assert silent.attributions is None
    assert torch.equal(silent.probabilities, queries.victim)


def test_the_maps_that_leave_are_those_that_the_link_made() -> None:
    network = toy()
    queries = explaining(asked(network, 8))
    for link in (defended(network, steps=12, rate=0.02), maps_only(network, steps=12, rate=0.02)):
        chain = Chain([link, LabelOnly()])
        explainer = Explainer("grad-cam", SingleVictim(network), chain)
        assert explainer.covered
        maps = explainer.maps(queries, chain.run(queries).answers)
        victims = Explainer("grad-cam", SingleVictim(network), Chain([])).maps(
            queries, Answers(queries.victim)
        )
        assert not (maps == victims).flatten(1).all(dim=1).any()


@pytest.mark.parametrize("kind", ["deepdefense", "dd-i"])
@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({"map_weight": -1.0}, r"defenses\[0\]\.map_weight: must be between 0 and 1e6"),
        ({"map_agreement": 1.5}, r"defenses\[0\]\.map_agreement: must be between 0 and 1, not 1.5"),
        ({"k": 5}, r"defenses\[0\]\.k: must be at most the 4 classes"),
        ({"interpreter": "grad-cam"}, r"defenses\[0\]\.interpreter: \S+ has no such option"),
    ],
)
def test_a_bad_option_is_named(kind: str, spec: dict[str, Any], sentence: str) -> None:
    with pytest.raises(OptionError, match=sentence):
        build_chain([{"kind": kind, **spec}], material(4))


@pytest.mark.parametrize("kind", ["deepdefense", "dd-i"])
def test_who_cannot_be_defended_so_is_told_why(kind: str) -> None:
    given = material(4)
    with pytest.raises(OptionError, match=r"this model serves none: give it explanations"):
        build_chain([{"kind": kind}], replace(given, interpreter=None))
    members = {role: network.model_copy() for role, network in given.card.networks.items()} | {
        "member-1": given.card.networks["victim"],
        "hash": given.card.networks["victim"],
    }
    several = given.card.model_copy(update={"networks": members})
    with pytest.raises(OptionError, match="works on one network, and an ensemble answers"):
        build_chain([{"kind": kind}], replace(given, card=several))
    stranger = build_interpreter("gradient-x-input", given.networks["misinformation"])
    with pytest.raises(OptionError, match="misleads about its own victim only"):
        build_chain([{"kind": kind}], replace(given, interpreter=stranger))
    network = toy()
    cam = build_interpreter("relevance-cam", network)
    with pytest.raises(OptionError, match="relevance-cam looks at signs of whole weights: set"):
        LINKS[kind](victim=network, interpreter=cam, layers=LAYERS)
    with pytest.raises(OptionError, match="through the map, which fixed does not allow"):
        LINKS[kind](victim=network, interpreter=Fixed(network), layers=LAYERS)


@every_way
def test_the_victim_is_not_touched(weights: str, interpreter: str) -> None:
    network = toy()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    left(defended(network, interpreter, steps=2, weights=weights), asked(network, 3))
    assert all(torch.equal(network.state_dict()[name], value) for name, value in before.items())
    assert not any(value.requires_grad or value.grad is not None for value in network.parameters())
    assert not any(module._forward_hooks or module.training for module in network.modules())
    assert not images(1).requires_grad

"""A bundle that holds an ensemble is whole, and is loaded as one victim."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from models.bundle import load_victim, open_bundle, write_bundle
from models.card import Measurement
from models.ensemble import RoutedEnsemble
from models.errors import BundleError
from models.victim import SingleVictim
from tests.models.builders import SPEC, edit_card, source, tiny_bundle

IMAGES = torch.rand(32, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def ensemble(root: Path) -> Path:
    members = {"victim": source(1), "member-1": source(2), "member-2": source(3)}
    return write_bundle(
        root,
        name="three",
        version="1",
        description="Three members.",
        input=SPEC,
        labels=("a", "b", "c"),
        networks={**members, "hash": source(4, outputs=7)},
        measured=(Measurement(dataset="toy", split="test", samples=8, accuracy=0.75),),
    )


def test_an_ensemble_is_one_victim_of_several_members(tmp_path: Path) -> None:
    bundle = open_bundle(ensemble(tmp_path))
    assert bundle.card.members == ("victim", "member-1", "member-2")
    assert bundle.card.measured[0].accuracy == 0.75
    victim = load_victim(bundle)
    assert isinstance(victim, RoutedEnsemble)
    assert not any(parameter.requires_grad for parameter in victim.parameters())
    member = victim.route(IMAGES)
    assert len(set(member.tolist())) > 1
    for number, role in enumerate(bundle.card.members):
        alone, mine = bundle.load(role), member == number
        torch.testing.assert_close(victim.logits(IMAGES)[mine], alone(IMAGES[mine]))


def test_a_bundle_of_one_network_is_a_single_victim(tmp_path: Path) -> None:
    bundle = open_bundle(tiny_bundle(tmp_path))
    victim = load_victim(bundle)
    assert bundle.card.members == ("victim",)
    assert isinstance(victim, SingleVictim)
    torch.testing.assert_close(victim.logits(IMAGES), bundle.load("victim")(IMAGES))
    assert victim.route(IMAGES).tolist() == [0] * 32


Edit = Callable[[dict[str, Any]], object]


def rename(networks: dict[str, Any], old: str, new: str) -> None:
    networks[new] = networks.pop(old) | {"file": f"{new}.safetensors"}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda n: n.pop("hash"), "networks.member-1 needs a network hash"),
        (lambda n: (n.pop("member-1"), n.pop("member-2")), "routes to 2 to 64 members"),
        (lambda n: n.pop("member-1"), "2 members to route to, and none is called member-1"),
        (lambda n: n.pop("victim"), "none is called victim"),
        (lambda n: rename(n, "member-2", "member-02"), "none is called member-2"),
        (lambda n: rename(n, "member-1", "member-0"), "none is called member-1"),
        (lambda n: n["member-2"].update(outputs=5), "networks.member-2 has 5 outputs"),
        (lambda n: n["hash"].update(outputs=1), "networks.hash must have at least 2 outputs"),
    ],
)
def test_an_ensemble_that_is_not_whole_is_refused(tmp_path: Path, edit: Edit, message: str) -> None:
    path = ensemble(tmp_path)
    edit_card(path, lambda card: edit(card["networks"]))
    with pytest.raises(BundleError, match=message):
        open_bundle(path)

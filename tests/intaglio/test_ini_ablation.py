"""Every row of InI's ablation is a recipe and a few words of ``--set``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from intaglio.objectives import OBJECTIVES
from intaglio.recipe import load_recipe
from models.training.objective import Batch
from tests.training.toys import network, quadrants, strangers

ALL = {"cross_entropy", "isolation", "induction", "gradient_norm"}
OPTIONS = "objective.options."
ABLATION: dict[str, tuple[dict[str, Any], set[str]]] = {
    "full": ({}, ALL),
    "isolation only": ({"gamma": 0, "epsilon": 0}, {"cross_entropy", "isolation"}),
    "induction only": ({"delta": 0}, ALL - {"isolation"}),
    "no gradient norm": ({"epsilon": 0}, ALL - {"gradient_norm"}),
    "no term at all": ({"gamma": 0, "delta": 0, "epsilon": 0}, {"cross_entropy"}),
    "the paper's forms": (
        {"isolation": "ce_vc", "induction": "kl", "gradient_norm": "l2"}, ALL,
    ),
    "separate": ({"ood_bn": "separate"}, ALL),
    "concatenated": ({"ood_bn": "concatenated"}, ALL),
    "frozen": ({"ood_bn": "frozen"}, ALL),
    "second order": ({"second_order": True}, ALL),
}  # fmt: skip


@pytest.mark.parametrize("row", ABLATION)
@pytest.mark.parametrize("written", ["set", "yaml"])
def test_a_recipe_reaches_every_switch(row: str, written: str, tmp_path: Path) -> None:
    switches, terms = ABLATION[row]
    if written == "set":
        recipe = load_recipe(
            "digits-ini", [f"{OPTIONS}{key}={value}" for key, value in switches.items()]
        )
        defaults = dict(load_recipe("digits-ini").objective.options)
    else:
        path = tmp_path / "ini.yaml"
        options = ", ".join(f"{key}: {value}" for key, value in switches.items())
        path.write_text(
            "name: toy\narchitecture: {name: lenet}\ndata: {train: digits, ood: symbols}\n"
            f"objective: {{kind: ini, options: {{{options}}}}}\n"
        )
        recipe = load_recipe(str(path))
        defaults = {}
    victim = network(1)
    networks = {"victim": victim, "clone": network(2)}
    objective = OBJECTIVES["ini"].build(networks, recipe.objective)
    known = objective.options()
    assert {key: known[key] for key in (defaults | switches)} == defaults | switches
    images, labels = quadrants(8, 1)
    batch = Batch(images.float() / 255, labels, strangers(8, 2).float() / 255)
    assert set(objective.losses(batch)) == terms
    updates = victim.get_buffer("1.num_batches_tracked")
    expected = {"concatenated": 1, "frozen": 1}.get(str(known["ood_bn"]), 2)
    assert torch.equal(updates, torch.tensor(expected))


@pytest.mark.parametrize("combiner", ["sum", "pcgrad", "pcgrad-sum"])
def test_a_recipe_names_how_the_terms_are_combined(combiner: str) -> None:
    assert load_recipe("digits-ini", [f"plan.combiner={combiner}"]).plan.combiner == combiner

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from intaglio.commands.train import train
from intaglio.recipe import load_recipe
from intaglio.training import train_recipe
from models.bundle import open_bundle
from tests.training.toys import Interrupted, Interrupting, quadrants, strangers

RECIPE = """
name: toy
architecture: {name: cnn-small, arguments: {width: 4}}
data: {train: quadrants, validation_fraction: 0.2, ood: strangers}
objective: {kind: KIND}
plan: {epochs: 4, batch_size: 32, optimiser: {kind: adam, lr: 0.01}}
"""
KINDS = {
    "ini": ["objective.options.epsilon=10"],
    "ini-pcgrad": ["objective.options.epsilon=10", "plan.combiner=pcgrad"],
    "outlier-exposure": [],
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A data root with images and strangers, and a recipe for each objective."""
    images, labels = quadrants(300, 1)
    tests, truth = quadrants(80, 2)
    others = strangers(200, 3)[:, 0].numpy()
    np.savez(
        tmp_path / "quadrants.npz",
        x_train=images[:, 0].numpy(),
        y_train=labels.numpy(),
        x_test=tests[:, 0].numpy(),
        y_test=truth.numpy(),
    )
    numbers = np.arange(200) % 2
    np.savez(
        tmp_path / "strangers.npz", x_train=others, y_train=numbers, x_test=others, y_test=numbers
    )
    for kind in KINDS:
        (tmp_path / f"{kind}.yaml").write_text(RECIPE.replace("KIND", kind.split("-pcgrad")[0]))
    return tmp_path


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_run_goes_on_to_the_same_bundle_of_one_network(
    place: Path, kind: str
) -> None:
    recipe = load_recipe(str(place / f"{kind}.yaml"), KINDS[kind])
    whole = train_recipe(recipe, out=place / "whole", data_root=place)
    with pytest.raises(Interrupted):
        train_recipe(recipe, out=place / "halved", data_root=place, reporter=Interrupting(after=2))
    reporter = Interrupting()
    halved = train_recipe(recipe, out=place / "halved", data_root=place, reporter=reporter)
    assert reporter.done == 2
    card = open_bundle(whole).card
    assert set(card.networks) == {"victim"}  # what is served costs what a plain model costs
    training = card.networks["victim"].training
    assert training is not None
    assert (training.objective, training.ood) == (recipe.objective.kind, "strangers")
    assert card.networks["victim"].measured[1].accuracy > 0.8
    assert (whole / "victim.safetensors").read_bytes() == (
        halved / "victim.safetensors"
    ).read_bytes()


@pytest.mark.parametrize(
    ("kind", "override", "sentence"),
    [
        ("ini", "data.ood=null", "data.ood: the objective ini needs"),
        ("ini", "objective.options.beta=1", "objective.options.beta: ini has no such option"),
        ("ini", "objective.options.gamma=-1", "objective.options.gamma: must be a finite number"),
        ("ini", "objective.options.isolation=kl", "objective.options.isolation: "),
        ("ini", "objective.options.second_order=maybe", "objective.options.second_order: "),
        ("ini", "plan.combiner=mgda", "plan.combiner: input should be 'sum', 'pcgrad' or"),
        ("outlier-exposure", "objective.options.ood_bn=both", "objective.options.ood_bn: "),
        ("outlier-exposure", "objective.options.lambda_oe=-1", "objective.options.lambda_oe: must"),
    ],
)
def test_a_wrong_recipe_ends_with_a_sentence_before_any_epoch(
    place: Path, kind: str, override: str, sentence: str
) -> None:
    arguments = [str(place / f"{kind}.yaml"), "--set", override, "--data-root", str(place)]
    result = CliRunner().invoke(train, [*arguments, "--out", str(place / "out")])
    assert result.exit_code == 2
    assert sentence in result.output
    assert "Traceback" not in result.output
    assert "epoch" not in result.output
    assert not (place / "out" / ".training").exists()

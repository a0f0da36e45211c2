"""Recipes of weights that are trained against a plain network."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file

from intaglio.commands.train import train
from intaglio.recipe import load_recipe
from intaglio.training import train_recipe
from models.adversarial.card import AdversarialCard
from models.bundle import open_bundle
from tests.training.toys import Interrupted, Interrupting, quadrants

PLAIN = """
name: toy
architecture: {name: cnn-small, arguments: {width: 4}}
data: {train: quadrants, validation_fraction: 0.2}
plan: {epochs: 3, batch_size: 32, optimiser: {kind: adam, lr: 0.01}}
"""
OBJECTIVES = {
    "nasty": "{kind: nasty, base: toy, options: {ramp_epochs: 1}}",
    "stt": "{kind: stt, base: toy, options: {alpha: 0.3}}",
    "ast": "{kind: ast, base: toy, options: {alpha: 0.3}, adversarial: {iterations: 2}}",
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root, recipes, and the bundle of the plain one."""
    torch.set_num_threads(1)
    place = tmp_path_factory.mktemp("place")
    images, labels = quadrants(300, 1)
    tests, truth = quadrants(80, 2)
    for name, shown in (("quadrants", labels), ("others", labels % 3)):
        np.savez(
            place / f"{name}.npz",
            x_train=images[:, 0].numpy(),
            y_train=shown.numpy().astype(np.uint8),
            x_test=tests[:, 0].numpy(),
            y_test=(truth if name == "quadrants" else truth % 3).numpy().astype(np.uint8),
        )
    (place / "toy.yaml").write_text(PLAIN)
    for kind, objective in OBJECTIVES.items():
        text = PLAIN.replace("name: toy", f"name: toy-{kind}")
        (place / f"toy-{kind}.yaml").write_text(f"{text}objective: {objective}\n")
    train_recipe(load_recipe(str(place / "toy.yaml")), out=place / "out", data_root=place)
    return place


@pytest.fixture
def place(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "place"))


def run(place: Path, recipe: str, *overrides: str) -> Result:
    arguments = [str(place / f"{recipe}.yaml"), "--data-root", str(place), "--device", "cpu"]
    arguments += ["--out", str(place / "out")]
    for override in overrides:
        arguments += ["--set", override]
    return CliRunner().invoke(train, arguments)


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_a_defended_bundle_holds_one_network_and_tells_its_base(kind: str, place: Path) -> None:
    plain = load_file(place / "out" / "toy" / "1" / "victim.safetensors")
    result = run(place, f"toy-{kind}")
    assert result.exit_code == 0, result.output
    bundle = open_bundle(place / "out" / f"toy-{kind}" / "1")
    assert list(bundle.card.networks) == ["victim"]
    training = bundle.card.networks["victim"].training
    assert training is not None
    assert training.objective == kind
    objective = training.recipe["objective"]
    assert isinstance(objective, dict)
    assert objective["base"] == "toy/1"
    weights = load_file(bundle.path / "victim.safetensors")
    assert weights.keys() == plain.keys()
    assert not torch.equal(weights["network.classifier.weight"], plain["network.classifier.weight"])
    assert bundle.card.networks["victim"].measured[0].accuracy > 0.5


def test_the_adversarial_set_is_made_once_for_all_recipes_that_want_it(place: Path) -> None:
    first = run(place, "toy-ast")
    assert "adversarial set: 240 of 240" in first.output
    (directory,) = (place / "out" / ".adversarial").iterdir()
    card = AdversarialCard.model_validate_json((directory / "card.json").read_text())
    network = open_bundle(place / "out" / "toy" / "1").card.networks["victim"]
    assert (card.base, card.base_sha256) == ("toy/1", network.sha256)
    assert (card.dataset, card.attack.iterations) == ("quadrants", 2)
    again = run(place, "toy-ast", "objective.options.alpha=0.1")
    assert again.exit_code == 0
    assert "adversarial set" not in again.output
    other = run(place, "toy-ast", "objective.adversarial.iterations=1")
    assert "adversarial set: 240 of 240" in other.output
    assert (place / "out" / "toy-ast" / "3" / "card.json").exists()


def test_a_warm_start_begins_with_the_weights_of_the_base(place: Path) -> None:
    changes = ["plan.optimiser.lr=1e-9", "plan.epochs=1", "objective.warm_start=true"]
    assert run(place, "toy-nasty", *changes).exit_code == 0
    ours, theirs = (
        load_file(place / "out" / name / "1" / "victim.safetensors")["network.classifier.weight"]
        for name in ("toy-nasty", "toy")
    )
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_an_argument_that_is_left_out_is_its_default(place: Path) -> None:
    """A base whose card says ``width: 16`` is what the recipe without arguments trains."""
    plain = ("architecture.arguments.width=16", "name=wide", "plan.epochs=1")
    assert run(place, "toy", *plain).exit_code == 0
    for arguments in ("{}", "{width: 16}"):
        changes = (f"architecture.arguments={arguments}", "objective.base=wide", "plan.epochs=1")
        result = run(place, "toy-stt", *changes)
        assert result.exit_code == 0, result.output


def test_a_base_may_be_given_by_its_directory(place: Path) -> None:
    elsewhere = place / "elsewhere" / "toy" / "1"
    shutil.copytree(place / "out" / "toy" / "1", elsewhere)
    shutil.rmtree(place / "out" / "toy")
    assert run(place, "toy-stt", f"objective.base={elsewhere}").exit_code == 0


def test_an_interrupted_recipe_goes_on_and_gives_the_same_weights(place: Path) -> None:
    recipe = load_recipe(str(place / "toy-ast.yaml"))
    whole = train_recipe(recipe, out=place / "out", data_root=place)
    shutil.rmtree(place / "out" / ".adversarial")
    halved = recipe.model_copy(update={"version": "halved"})
    with pytest.raises(Interrupted):
        train_recipe(halved, out=place / "out", data_root=place, reporter=Interrupting(after=2))
    reporter = Interrupting()
    resumed = train_recipe(halved, out=place / "out", data_root=place, reporter=reporter)
    assert reporter.done == 2
    assert (whole / "victim.safetensors").read_bytes() == (
        resumed / "victim.safetensors"
    ).read_bytes()


@pytest.mark.parametrize(
    ("recipe", "override", "sentence"),
    [
        ("toy-nasty", "objective.base=null", "objective.base: the objective nasty needs"),
        ("toy-nasty", "objective.base=nowhere", "objective.base: there is no bundle 'nowhere'"),
        ("toy-nasty", "architecture.arguments.width=5", "is a cnn-small {'width': 4}, this recipe"),
        ("toy-ast", "architecture={name: cnn5}", "objective.base: "),
        ("toy-stt", "input={channels: 1, height: 9, width: 8}", "differ in their input size"),
        ("toy-stt", "normalisation=mnist", "differ in their normalisation"),
        ("toy-stt", "data.train=others", "differ in their labels"),
        ("toy-stt", "data.split_seed=3", "objective.base: "),
        ("toy-stt", "objective.options.sparsity=2", "objective.options.sparsity: must be above 0"),
        ("toy-ast", "objective.options.target=other", "objective.options.target: "),
        ("toy-ast", "objective.adversarial.epsilon=2", "objective.adversarial.epsilon: input"),
        ("toy-ast", "objective.adversarial.steps=2", "there is no such key"),
        ("toy-stt", "objective.adversarial.step=0.1", "objective.adversarial: the objective stt"),
        ("toy", "objective.base=toy", "objective.base: the objective plain has no use for it"),
        ("toy", "objective.warm_start=true", "objective.warm_start: the objective plain has no"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_spent(
    recipe: str, override: str, sentence: str, place: Path
) -> None:
    result = run(place, recipe, override)
    assert result.exit_code == 2
    assert sentence in result.output
    assert "Traceback" not in result.output
    assert not (place / "out" / ".adversarial").exists()
    assert not any((place / "out" / ".training").iterdir())


def test_a_defended_network_is_no_base(place: Path) -> None:
    assert run(place, "toy-nasty").exit_code == 0
    result = run(place, "toy-stt", "objective.base=toy-nasty")
    assert result.exit_code == 2
    assert "was trained as nasty, not plain" in result.output


def test_a_base_without_a_victim_is_refused(place: Path) -> None:
    bundle = place / "out" / "toy" / "1"
    card = json.loads((bundle / "card.json").read_text())
    card["networks"]["other"] = card["networks"].pop("victim") | {"file": "other.safetensors"}
    (bundle / "card.json").write_text(json.dumps(card))
    (bundle / "victim.safetensors").rename(bundle / "other.safetensors")
    result = run(place, "toy-nasty")
    assert result.exit_code == 2
    assert "holds no victim" in result.output

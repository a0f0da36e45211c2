from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from intaglio.commands.models import models
from intaglio.commands.train import train
from intaglio.recipe import load_recipe
from intaglio.training import train_recipe
from models.bundle import load_victim, open_bundle
from models.ensemble import RoutedEnsemble
from models.training.evaluate import accuracy, probabilities
from tests.training.toys import Interrupted, Interrupting, quadrants, strangers

RECIPE = """
name: toy
architecture: {name: cnn-small, arguments: {width: 4}}
data: {train: quadrants, validation_fraction: 0.2, ood: strangers}
objective:
  kind: edm
  ensemble:
    members: 3
    hash:
      architecture: {name: cnn-small, arguments: {width: 2}}
      plan: {epochs: 1, batch_size: 32, optimiser: {kind: adam, lr: 0.01}}
plan: {epochs: 4, batch_size: 32, optimiser: {kind: adam, lr: 0.01}}
"""


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A data root with images and strangers, and the recipe."""
    images, labels = quadrants(300, 1)
    tests, truth = quadrants(80, 2)
    others, kinds = strangers(200, 3)[:, 0].numpy(), np.arange(200) % 6
    np.savez(
        tmp_path / "quadrants.npz",
        x_train=images[:, 0].numpy(),
        y_train=labels.numpy(),
        x_test=tests[:, 0].numpy(),
        y_test=truth.numpy(),
    )
    np.savez(tmp_path / "strangers.npz", x_train=others, y_train=kinds, x_test=others, y_test=kinds)
    ones = np.zeros(60, dtype=np.int64)
    np.savez(
        tmp_path / "alike.npz",
        x_train=others[:60],
        y_train=ones,
        x_test=others[:9],
        y_test=ones[:9],
    )
    (tmp_path / "edm.yaml").write_text(RECIPE)
    return tmp_path


def test_an_interrupted_run_goes_on_to_the_same_ensemble(place: Path) -> None:
    recipe = load_recipe(str(place / "edm.yaml"))
    whole = train_recipe(recipe, out=place / "whole", data_root=place)
    with pytest.raises(Interrupted):
        train_recipe(recipe, out=place / "halved", data_root=place, reporter=Interrupting(after=2))
    reporter = Interrupting()
    halved = train_recipe(recipe, out=place / "halved", data_root=place, reporter=reporter)
    # The hash network was done, then came the members.
    assert [call for call in reporter.calls if call.startswith("start")] == [
        "start 1 7 1",
        "start 4 8 2",
    ]
    files = sorted(path.name for path in whole.iterdir())
    assert files == [
        "card.json", "hash.safetensors", "member-1.safetensors", "member-2.safetensors",
        "victim.safetensors",
    ]  # fmt: skip
    for name in files[1:]:
        assert (whole / name).read_bytes() == (halved / name).read_bytes(), name
    contents = {(whole / name).read_bytes() for name in files[2:]}
    assert len(contents) == 3, "members that are copies of one another"


def test_the_bundle_says_what_was_measured_of_members_and_of_all_together(place: Path) -> None:
    recipe = load_recipe(str(place / "edm.yaml"))
    bundle = open_bundle(train_recipe(recipe, out=place / "out", data_root=place))
    card = bundle.card
    assert card.networks["hash"].outputs == 6
    trained = card.networks["hash"].training
    assert trained is not None
    assert (trained.objective, trained.data, trained.epochs) == ("plain", "strangers", 1)
    for role in card.members:
        training = card.networks[role].training
        assert training is not None
        assert (training.objective, training.ood) == ("edm", "strangers")
    victim = load_victim(bundle)
    assert isinstance(victim, RoutedEnsemble)
    images, labels = quadrants(80, 2)
    validation, test = card.measured
    assert (validation.split, test.split, test.samples) == ("validation", "test", 80)
    assert test.accuracy == accuracy(probabilities(victim, images), labels)
    assert test.accuracy > 0.8
    shown = CliRunner().invoke(models, ["show", "toy", "--models", str(place / "out")])
    assert shown.exit_code == 0
    assert "ensemble of 3" in shown.output
    assert f"{test.accuracy:.2%} of 80 quadrants test images" in " ".join(shown.output.split())


def test_progress_says_which_of_the_two_runs_it_is_of(place: Path) -> None:
    arguments = [str(place / "edm.yaml"), "--set", "plan.epochs=2", "--data-root", str(place)]
    result = CliRunner().invoke(train, [*arguments, "--out", str(place / "out")])
    assert result.exit_code == 0, result.output
    assert "toy, hash network: epoch 1/1" in result.output
    assert "toy: epoch 2/2" in result.output


def test_a_run_that_starts_over_forgets_its_hash_network_too(place: Path) -> None:
    recipe = load_recipe(str(place / "edm.yaml"))
    with pytest.raises(Interrupted):
        train_recipe(recipe, out=place / "out", data_root=place, reporter=Interrupting(after=2))
    reporter = Interrupting()
    train_recipe(recipe, out=place / "out", data_root=place, reporter=reporter, restart=True)
    assert [call for call in reporter.calls if call.startswith("start")] == [
        "start 1 7 0",
        "start 4 8 0",
    ]


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("data.ood=null", "data.ood: the objective edm needs"),
        ("objective.options.lambda_d=-1", "objective.options.lambda_d: must be a finite number"),
        ("objective.options.members=3", "objective.options.members: edm has no such option"),
        ("objective.options.ood_bn=both", "objective.options.ood_bn: "),
        ("objective.ensemble.members=1", "objective.ensemble.members: "),
        ("objective.ensemble.members=65", "objective.ensemble.members: "),
        ("objective.ensemble.hash.data=quadrants", "is what the members are trained on"),
        ("objective.ensemble.hash.data=alike", "alike has 1 class, at least 2 are needed"),
        ("objective.ensemble.hash.data=nowhere", "nowhere"),
        ("objective.ensemble.hash.architecture.name=tiny", "tiny"),
        ("objective.ensemble.hash.plan.epochs=0", "objective.ensemble.hash.plan.epochs: "),
        (
            "objective.ensemble.hash.plan.selection=best-on-validation",
            "objective.ensemble.hash.plan.selection: must be last",
        ),
        ("objective.kind=ini", "objective.ensemble: the objective ini has no use for it"),
    ],
)
def test_a_wrong_recipe_ends_with_a_sentence_before_any_epoch(
    place: Path, override: str, sentence: str
) -> None:
    arguments = [str(place / "edm.yaml"), "--set", override, "--data-root", str(place)]
    result = CliRunner().invoke(train, [*arguments, "--out", str(place / "out")])
    assert result.exit_code == 2
    assert sentence in result.output
    assert "Traceback" not in result.output
    assert "epoch " not in result.output
    assert not (place / "out" / ".training").exists()

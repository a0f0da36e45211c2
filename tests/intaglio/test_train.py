from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from intaglio.commands.models import models
from intaglio.commands.train import train
from intaglio.recipe import load_recipe
from intaglio.training import train_recipe
from intaglio.training_data import prepare
from models.bundle import open_bundle
from models.training.evaluate import accuracy, probabilities
from models.training.history import EpochRecord
from tests.training.toys import Interrupted, Interrupting, quadrants, strangers

PLAIN = """
name: toy
description: Bright quadrants.
architecture: {name: cnn-small, arguments: {width: 4}}
data: {train: quadrants, validation_fraction: 0.2}
plan: {epochs: 4, batch_size: 32, optimiser: {kind: adam, lr: 0.01}}
"""
AM = PLAIN.replace("name: toy", "name: toy-am").replace("0.2}", "0.2, ood: strangers}") + (
    "objective: {kind: am}\n"
)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A data root with two datasets, and two recipes for them."""
    images, labels = quadrants(300, 1)
    tests, truth = quadrants(80, 2)
    np.savez(
        tmp_path / "quadrants.npz",
        x_train=images[:, 0].numpy(),
        y_train=labels.numpy().astype(np.uint8),
        x_test=tests[:, 0].numpy(),
        y_test=truth.numpy().astype(np.uint8),
    )
    # Strangers of another size and in colour: they are fitted as an attacker's pool would be.
    odd = strangers(200, 3).repeat(1, 3, 2, 2).permute(0, 2, 3, 1).numpy()
    numbers = np.arange(200) % 2
    np.savez(tmp_path / "strangers.npz", x_train=odd, y_train=numbers, x_test=odd, y_test=numbers)
    (tmp_path / "toy.yaml").write_text(PLAIN)
    (tmp_path / "toy-am.yaml").write_text(AM)
    return tmp_path


def run(place: Path, *arguments: str) -> Result:
    common = ["--data-root", str(place), "--out", str(place / "out"), "--device", "cpu"]
    return CliRunner().invoke(train, [*arguments, *common])


def test_a_recipe_becomes_a_bundle_that_holds_what_it_measured(place: Path) -> None:
    result = run(place, str(place / "toy.yaml"))
    assert result.exit_code == 0, result.output
    bundle = open_bundle(place / "out" / "toy" / "1")
    card = bundle.card
    network = card.networks["victim"]
    assert card.description == "Bright quadrants."
    assert card.input.shape == (1, 8, 8)
    assert network.training is not None
    assert network.training.objective == "plain"
    assert network.training.epochs == 4
    assert network.training.recipe["architecture"] == {
        "name": "cnn-small",
        "arguments": {"width": 4},
    }
    validation, test = network.measured
    assert (validation.split, validation.samples) == ("validation", 60)
    assert (test.split, test.samples, test.dataset) == ("test", 80, "quadrants")
    images, labels = quadrants(80, 2)
    assert test.accuracy == accuracy(probabilities(bundle.load("victim"), images), labels)
    assert test.accuracy > 0.9
    assert f"test accuracy {test.accuracy:.2%}" in result.output
    assert result.output.splitlines()[-1] == f"bundle {bundle.path}"
    assert "fitted" not in result.output
    assert "validation" in result.output
    assert list((place / "out" / ".training").iterdir()) == []


def test_am_bundles_hold_both_networks_and_a_calibration_against_the_plain_model(
    place: Path,
) -> None:
    assert run(place, str(place / "toy.yaml")).exit_code == 0
    reference = place / "out" / "toy" / "1"
    result = run(place, str(place / "toy-am.yaml"), "--set", f"objective.reference={reference}")
    assert result.exit_code == 0, result.output
    card = open_bundle(place / "out" / "toy-am" / "1").card
    fitted = "data.ood: images of strangers are 3x16x16 and are fitted to 1x8x8"
    assert result.output.splitlines()[0] == fitted  # before any epoch
    shown = CliRunner().invoke(models, ["show", "toy-am", "--models", str(place / "out")])
    assert "am on quadrants against strangers, fitted from 3x16x16" in shown.output
    assert set(card.networks) == {"victim", "misinformation"}
    assert card.networks["victim"].sha256 != card.networks["misinformation"].sha256
    training = card.networks["misinformation"].training
    assert training is not None
    assert (training.ood, training.ood_shape) == ("strangers", (3, 16, 16))
    table = card.calibrations["am"]
    assert table.samples == 60
    plain = open_bundle(reference).card.networks["victim"]
    assert table.reference == plain.measured[0].accuracy
    assert table.accuracies[0] == card.networks["victim"].measured[0].accuracy
    assert table.rejected[-1] > 0.5


def test_validation_images_are_the_same_for_plain_and_defended(place: Path) -> None:
    def held_out(name: str, *overrides: str) -> bytes:
        recipe = load_recipe(str(place / f"{name}.yaml"), overrides)
        prepared = prepare(recipe, data_root=place, needs_ood=name == "toy-am")
        return prepared.validation[0].numpy().tobytes()

    assert held_out("toy") == held_out("toy-am") == held_out("toy", "plan.seed=5")
    assert held_out("toy") != held_out("toy", "data.split_seed=1")


def test_versions_count_up_and_none_is_overwritten(place: Path) -> None:
    short = ["--set", "plan.epochs=1"]
    for _ in range(2):
        assert run(place, str(place / "toy.yaml"), *short).exit_code == 0
    assert sorted(path.name for path in (place / "out" / "toy").iterdir()) == ["1", "2"]
    result = run(place, str(place / "toy.yaml"), *short, "--set", "version='2'")
    assert result.exit_code == 2
    assert "version: " in result.output
    assert "never overwritten" in result.output


@pytest.mark.parametrize(
    ("recipe", "override", "sentence"),
    [
        ("toy", "data.train=nothing", "no dataset 'nothing'"),
        ("toy", "architecture.name=nothing", "no architecture 'nothing'"),
        ("toy", "architecture.name=os:system", "--allow-factory"),
        ("toy", "data.ood=strangers", "data.ood: the objective plain has no use"),
        ("toy-am", "data.ood=null", "data.ood: the objective am needs"),
        ("toy-am", "data.ood=quadrants", "data.ood: quadrants is what the model is trained on"),
        ("toy", "data.validation_fraction=0.001", "data.validation_fraction: 0.001 of 300"),
        ("toy", "normalisation=cifar", "'cifar' is for 3 channels"),
        ("toy", "objective.options.lambda_oe=1", "objective.options.lambda_oe: plain has no such"),
        ("toy-am", "objective.options.lambda_oe=x", "objective.options.lambda_oe: "),
        ("toy-am", "objective.options.lambda_oe=-1", "objective.options.lambda_oe: must be"),
        ("toy-am", "objective.reference=nowhere", "nowhere is not a bundle"),
        ("toy", "objective.reference=nowhere", "reference: the objective plain has no use for it"),
        ("toy", "plan.optimiser={kind: sgd, lr: 1e30}", "became nan in epoch 1"),
    ],
)
def test_what_cannot_be_trained_ends_with_a_sentence_and_status_2(
    place: Path, recipe: str, override: str, sentence: str
) -> None:
    result = run(place, str(place / f"{recipe}.yaml"), "--set", override)
    assert result.exit_code == 2
    assert sentence in result.output
    assert "Traceback" not in result.output
    assert not (place / "out" / recipe).exists()


def test_a_reference_trained_on_the_validation_images_is_refused(place: Path) -> None:
    other = ["--set", "data.split_seed=3", "--set", "plan.epochs=1"]
    assert run(place, str(place / "toy.yaml"), *other).exit_code == 0
    reference = f"objective.reference={place / 'out' / 'toy' / '1'}"
    result = run(place, str(place / "toy-am.yaml"), "--set", reference)
    assert result.exit_code == 2
    assert "data.split_seed 3" in result.output


def test_a_reference_that_is_itself_defended_is_refused(place: Path) -> None:
    short = ["--set", "plan.epochs=1"]
    assert run(place, str(place / "toy-am.yaml"), *short).exit_code == 0
    reference = f"objective.reference={place / 'out' / 'toy-am' / '1'}"
    result = run(place, str(place / "toy-am.yaml"), *short, "--set", reference)
    assert result.exit_code == 2
    assert "was trained as am" in " ".join(result.output.split())


def test_an_interrupted_recipe_goes_on_and_gives_the_same_weights(place: Path) -> None:
    recipe = load_recipe(str(place / "toy-am.yaml"))
    whole = train_recipe(recipe, out=place / "whole", data_root=place)
    with pytest.raises(Interrupted):
        train_recipe(recipe, out=place / "halved", data_root=place, reporter=Interrupting(after=2))
    assert not (place / "halved" / "toy-am").exists()
    reporter = Interrupting()
    halved = train_recipe(recipe, out=place / "halved", data_root=place, reporter=reporter)
    assert reporter.done == 2
    for role in ("victim", "misinformation"):
        ours, theirs = (bundle / f"{role}.safetensors" for bundle in (whole, halved))
        assert ours.read_bytes() == theirs.read_bytes()
    assert (whole / "card.json").read_text() == (halved / "card.json").read_text()


def test_restart_forgets_the_interrupted_run(place: Path) -> None:
    recipe = load_recipe(str(place / "toy.yaml"))
    for restart, done in ((False, 2), (True, 0)):
        with pytest.raises(Interrupted):
            train_recipe(recipe, out=place, data_root=place, reporter=Interrupting(after=2))
        reporter = Interrupting()
        train_recipe(recipe, out=place, data_root=place, reporter=reporter, restart=restart)
        assert reporter.done == done


@pytest.mark.parametrize("version", [None, "first"])
def test_a_kill_after_the_bundle_is_written_leaves_nothing_to_train(
    place: Path, version: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(str(place / "toy.yaml")).model_copy(update={"version": version})

    def killed(state: Path) -> None:
        (state / "checkpoint.safetensors").unlink()  # as far as it came
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr("intaglio.training.forget", killed)
        with pytest.raises(Interrupted):
            train_recipe(recipe, out=place / "out", data_root=place)
    reporter = Interrupting()
    bundle = train_recipe(recipe, out=place / "out", data_root=place, reporter=reporter)
    assert bundle == place / "out" / "toy" / (version or "1")
    assert reporter.calls == []
    assert [path.name for path in (place / "out" / "toy").iterdir()] == [version or "1"]
    assert not any((place / "out" / ".training").iterdir())
    if version is None:  # done with: the same command is another run again
        assert train_recipe(recipe, out=place / "out", data_root=place).name == "2"


def test_a_kill_just_before_the_bundle_is_written_leaves_it_to_be_written(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(str(place / "toy.yaml"))

    def killed(*_: object, **__: object) -> None:
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr("intaglio.training.write_bundle", killed)
        with pytest.raises(Interrupted):
            train_recipe(recipe, out=place / "out", data_root=place)
    assert train_recipe(recipe, out=place / "out", data_root=place).name == "1"


def test_two_processes_do_not_train_one_recipe_at_once(place: Path) -> None:
    recipe = load_recipe(str(place / "toy.yaml"))

    class Meanwhile(Interrupting):
        output = ""

        def epoch(self, record: EpochRecord) -> None:
            if record.epoch == 1:
                self.output = run(place, str(place / "toy.yaml")).output

    reporter = Meanwhile()
    train_recipe(recipe, out=place / "out", data_root=place, reporter=reporter)
    assert "another process is training this recipe" in reporter.output


def test_kill_9_of_the_command_and_the_same_command_again(place: Path) -> None:
    command = [sys.executable, "-c", "from intaglio.cli import main; main()"]
    command += ["train", str(place / "toy.yaml"), "--set", "plan.epochs=20000"]
    command += ["--data-root", str(place), "--out", str(place / "out"), "--device", "cpu"]

    def start(first_line: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert process.stdout is not None
        with process.stdout as lines:
            assert lines.readline().startswith(first_line)
            process.send_signal(signal.SIGKILL if "epoch 1/" in first_line else signal.SIGINT)
            process.wait(30)
            assert "Traceback" not in lines.read()
        return process

    assert start("toy: epoch 1/20000").returncode == -signal.SIGKILL
    assert start("toy: resumed after epoch ").returncode == 130


def test_list_shows_the_shipped_recipes() -> None:
    result = CliRunner().invoke(train, ["--list"])
    assert result.exit_code == 0
    assert "mnist-lenet-am" in result.output
    assert CliRunner().invoke(train, []).exit_code == 2

from __future__ import annotations

import csv
import errno
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from intaglio.commands.models import models
from intaglio.commands.train import train
from intaglio.dry_run import dry_run
from intaglio.errors import RecipeError
from intaglio.recipe import load_recipe, shipped_recipes
from intaglio.training import train_recipe
from models import datasets
from models.bundle import open_bundle
from models.datasets import Dataset
from models.errors import ModelsError, TrainingError
from models.training.atomic import write_atomically
from models.training.metrics import CsvMetrics
from tests.training.toys import Interrupting, quadrants

RECIPE = """
name: toy
description: Bright quadrants.
architecture: {name: cnn-small, arguments: {width: 4}}
data: {train: quadrants, validation_fraction: 0.2}
plan: {epochs: 3, batch_size: 32, optimiser: {kind: adam, lr: 0.01}}
"""


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    images, labels = quadrants(200, 1)
    pixels, numbers = images[:, 0].numpy(), labels.numpy().astype(np.uint8)
    np.savez(
        tmp_path / "quadrants.npz",
        x_train=pixels,
        y_train=numbers,
        x_test=pixels[:50],
        y_test=numbers[:50],
    )
    (tmp_path / "toy.yaml").write_text(RECIPE)
    return tmp_path


def run(place: Path, *arguments: str, out: Path | None = None) -> Result:
    common = ["--data-root", str(place), "--out", str(out or place / "out"), "--device", "cpu"]
    return CliRunner().invoke(train, [str(place / "toy.yaml"), *arguments, *common])


def test_a_place_that_cannot_be_written_to_is_refused_before_any_epoch(place: Path) -> None:
    (place / "file").write_text("")
    (place / "link").symlink_to(place / "nowhere")
    for out, sentence in (
        (place / "file" / "deeper", f"lies below the file {place / 'file'}"),
        (place / "link" / "deeper", "is a link to nothing"),
        (Path("/proc/intaglio"), "--out /proc/intaglio: "),
    ):
        result = run(place, out=out)
        assert result.exit_code == 2, result.output
        assert sentence in result.output
        assert "Traceback" not in result.output
        assert "epoch" not in result.output


@pytest.mark.parametrize("restart", [False, True])
def test_a_disk_that_fills_up_is_a_sentence_and_the_run_goes_on(
    place: Path, restart: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[Path] = []

    def filling(path: Path, content: bytes) -> None:
        if len(saved) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write_atomically(path, content)
        saved.append(path)

    with monkeypatch.context() as patch:
        patch.setattr("models.training.checkpoint.write_atomically", filling)
        result = run(place, *(["--restart"] if restart else []))
    assert result.exit_code == 2
    assert saved[0] == saved[1]
    again = "the same command without --restart" if restart else "the same command"
    assert result.stderr.splitlines()[-1] == (
        f"Error: {saved[0]}: No space left on device ({again} goes on after the last saved epoch)"
    )
    assert "resumed after epoch 2" in run(place).output


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_without_permission_is_refused(place: Path) -> None:
    (place / "locked").mkdir(mode=0o500)
    result = run(place, out=place / "locked" / "out")
    assert result.exit_code == 2
    assert "may not be written to" in result.output


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("plan.precision=float16", "precision: float16 needs a CUDA device"),
        ("plan.precision=half", "plan.precision: input should be 'float32'"),
        ("plan.early_stop={patience: 2}", "plan: early_stop needs selection"),
        ("plan.early_stop.patients=2", "plan.early_stop"),
        ("plan.schedule={kind: one-cycle, rise: 2}", "plan.schedule.rise: "),
        ("plan.deterministic=3", "plan.deterministic: "),
        ("data.train=npz:negative.npz", "labels must lie in"),
    ],
)
def test_options_that_make_no_sense_cost_no_epoch(
    place: Path, override: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    with np.load(place / "quadrants.npz") as file:
        pixels, numbers = file["x_train"], file["y_train"].astype(np.int64)
    np.savez(
        place / "negative.npz",
        x_train=pixels,
        y_train=numbers - 1,
        x_test=pixels[:50],
        y_test=numbers[:50],
    )
    result = run(place, "--set", override)
    assert result.exit_code == 2, result.output
    assert sentence in result.output
    assert "epoch 1/" not in result.output
    assert not (place / "out").exists()


def test_metrics_tensorboard_and_the_card_of_a_deterministic_run(place: Path) -> None:
    where = ["--metrics", str(place / "curves"), "--tensorboard", str(place / "events")]
    result = run(place, *where, "--set", "plan.deterministic=true")
    assert result.exit_code == 0, result.output
    with (place / "curves" / "toy.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3"]
    assert list((place / "events" / "toy").glob("events.out.tfevents.*"))
    training = open_bundle(place / "out" / "toy" / "1").card.networks["victim"].training
    assert training is not None
    assert training.deterministic
    shown = CliRunner().invoke(models, ["show", "toy", "--models", str(place / "out")])
    assert "deterministic" in " ".join(shown.output.split())
    for one, sentence in (
        (where[:2], "the metrics of another"),
        (where[2:], "the events of another"),
    ):
        again = run(place, *one)
        assert again.exit_code == 2
        assert sentence in again.output
    assert run(place, *where, "--restart").exit_code == 0
    assert len(list((place / "events" / "toy").glob("events.out.tfevents.*"))) == 1


@pytest.mark.parametrize(
    "changes",
    [
        ["data.ood=symbols", "objective={kind: edm, ensemble: {members: 2}}"],
        ["objective={kind: ast, base: toy, adversarial: {iterations: 1}}"],
    ],
    ids=["hash network", "adversarial set"],
)
def test_metrics_are_refused_before_anything_is_spent(place: Path, changes: list[str]) -> None:
    assert run(place).exit_code == 0
    recipe, spent = load_recipe(str(place / "toy.yaml"), [*changes, "name=other"]), Interrupting()
    (place / "old.csv").write_text("epoch\n1\n")

    def train_it(*, restart: bool) -> None:
        train_recipe(
            recipe,
            out=place / "out",
            data_root=place,
            metrics=[CsvMetrics(place / "old.csv", restart=restart)],
            hash_reporter=spent,
            adversarial=lambda done, of: spent.calls.append(f"{done} of {of}"),
        )

    with pytest.raises(TrainingError, match="holds the metrics of another run"):
        train_it(restart=False)
    assert spent.calls == []
    train_it(restart=True)
    assert spent.calls


def test_two_processes_write_one_bundle(place: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "--no-python", sys.executable, "-c"]
    command += ["from intaglio.cli import main; main()", "train", str(place / "toy.yaml")]
    command += ["--data-root", str(place), "--out", str(place / "out"), "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 3/3") == 1
    assert done.stdout.count("bundle ") == 1
    card = open_bundle(place / "out" / "toy" / "1").card
    assert card.networks["victim"].measured[-1].accuracy > 0.8
    assert list((place / "out" / ".training").iterdir()) == []


def test_a_dry_run_prints_what_would_be_trained_and_keeps_nothing(place: Path) -> None:
    result = run(place, "--dry-run")
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.split())
    assert "quadrants (here): 200 images of 1x8x8, 4 classes" in said
    assert "3 epochs of 5 steps of 32 at most, 160 images, float32" in said
    assert "on noise: cross_entropy" in said
    assert not (place / "out").exists()
    refused = run(place, "--dry-run", "--set", "data.train=elsewhere")
    assert refused.exit_code == 2
    assert "data.train: elsewhere is not here, and nothing is known of it" in refused.output


def test_the_list_tells_cost_data_and_what_was_never_run() -> None:
    result = CliRunner().invoke(train, ["--list"])
    assert result.exit_code == 0
    lines = {line.split()[0]: line for line in result.output.splitlines() if line.strip()}
    assert shipped_recipes().keys() <= lines.keys()
    assert "tiny-imagenet (bring your own)" in lines["ini-table-2/cifar10-ini"]
    assert "unmeasured" in lines["ini-table-2/cifar10-ini"]
    assert "docs/results.md" in lines["mnist-lenet"]
    assert "digits (bundled)" in lines["digits-plain"]
    assert "Table 2, Res50 AST" in lines["ast-table-2/res50-ast"]
    assert "PFLOP" in lines["composite/mentor"]


def test_the_list_and_a_dry_run_read_a_dataset_once(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def load(spec: str, *, root: Path | None, split_seed: int) -> Dataset:
        read.append(spec)
        return datasets.load(spec, root=root, split_seed=split_seed)

    monkeypatch.setattr("intaglio.outlook.datasets", SimpleNamespace(load=load))
    for name, shape in (("mnist", (28, 28)), ("cifar10", (32, 32, 3))):
        pixels, numbers = np.zeros((400, *shape), np.uint8), np.arange(400) % 10
        np.savez(
            place / f"{name}.npz", x_train=pixels, y_train=numbers, x_test=pixels, y_test=numbers
        )
    listed = CliRunner().invoke(train, ["--list", "--data-root", str(place)])
    assert listed.exit_code == 0, listed.output
    assert sorted(set(read)) == ["cifar10", "mnist"]
    assert len(read) == 2
    read.clear()
    for _ in range(2):  # the next one looks again: data may have changed
        assert run(place, "--dry-run").exit_code == 0
    assert read == ["quadrants", "quadrants"]


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("plan.schedule={kind: cosine, warmup_epochs: 3}", "the run has only 3 epochs"),
        (
            "plan.schedule={kind: step, milestones: [1, 3]}",
            r"plan\.schedule\.milestones: .* 3 epochs",
        ),
        ("plan.batch_size=1", r"plan\.batch_size: .* some batch would be one image"),
        (
            "objective.ensemble.hash.plan.batch_size=1",
            r"plan\.batch_size: of 6000 images in batches",
        ),
        ("data.train_limit=3", "data.train_limit: 3 training images are fewer than the 10 classes"),
        ("objective.ensemble.hash.data=digits", "is what the members are trained on"),
        ("objective.ensemble.hash.plan.selection=best-on-validation", "plan.selection: must be"),
        ("objective.ensemble.hash.plan.precision=float16", "float16 needs a CUDA device"),
    ],
)
def test_a_dry_run_refuses_what_training_would_refuse(override: str, sentence: str) -> None:
    with pytest.raises(ModelsError, match=sentence):
        dry_run(load_recipe("digits-edm", ["plan.epochs=3", override]))


def test_too_little_data_is_refused_before_networks_are_built() -> None:
    with pytest.raises(RecipeError, match=r"validation_fraction: 0\.001 of 680 images"):
        dry_run(load_recipe("deepdefense-table-1/flowers17", ["data.validation_fraction=0.001"]))

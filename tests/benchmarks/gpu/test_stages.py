"""The stages are runnable: recipes, order, weights that travel, the script on a CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from attack_client.report import Row
from benchmarks.envelope import RESULTS
from benchmarks.gpu import run_stage, weights
from benchmarks.gpu.run_stage import shortened
from benchmarks.gpu.stages import SMOKE, STAGES, Stage
from intaglio.base_network import check_choice
from intaglio.objectives import OBJECTIVES
from intaglio.recipe import load_recipe
from models import datasets
from models.architectures import build
from models.bundle import NetworkSource, open_bundle, write_bundle
from models.card import InputSpec, Normalisation
from models.training.schedule import drop_beyond

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "gpu" / "reproduce.sh"
NORMALISATION = Normalisation(mean=(0.5,), std=(0.25,))


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
@pytest.mark.parametrize("smoke", [False, True], ids=["real", "smoke"])
def test_every_stage_trains_a_recipe_that_loads(stage: Stage, smoke: bool) -> None:
    stage = shortened(stage, smoke=smoke, epochs=None, clone_epochs=None)
    if smoke:
        assert {stage.pool, stage.test} <= set(datasets.names())
    if stage.recipe is None:
        assert stage.bundle in stage.needs
        return
    recipe = load_recipe(stage.recipe, [*stage.changes, f"plan.epochs={stage.epochs}"])
    trainable = OBJECTIVES[recipe.objective.kind]
    trainable.check(recipe.objective.options)
    check_choice(recipe, needs_base=trainable.base, needs_paired=trainable.objective.needs_paired)
    assert recipe.data.train == stage.test
    assert drop_beyond(recipe.plan.schedule, recipe.plan.epochs) is None
    if smoke:
        assert recipe.architecture.name == "cnn-small"
        assert {recipe.data.train, recipe.data.ood or "digits"} <= set(datasets.names())
    else:
        assert recipe.architecture.name == "resnet18"
        assert stage.epochs < stage.published_epochs


@pytest.mark.parametrize("family", ["mnist", "fashion"])
def test_the_two_forms_of_ini_are_those_of_the_papers_rows(family: str) -> None:
    for stage, row in (("ini", "ini-table-2/cifar10-ini"), ("ini-paper", "ini-table-5/paper-form")):
        chosen = STAGES[f"{family}-{stage}"]
        assert chosen.recipe is not None
        ours = load_recipe(chosen.recipe, chosen.changes).objective
        assert ours.options == load_recipe(row).objective.options


def test_what_a_stage_needs_is_made_by_one_before_it() -> None:
    made: set[str] = set()
    for stage in STAGES.values():
        assert set(stage.needs) <= made
        made.add(stage.bundle)
    assert set(SMOKE.values()) <= set(datasets.names())


def bundle(root: Path, name: str = "toy") -> Path:
    torch.manual_seed(0)
    networks = {
        role: NetworkSource(
            module=build(
                "cnn-small", channels=1, size=(8, 8), outputs=4, normalisation=NORMALISATION
            ),
            architecture="cnn-small",
            arguments={},
            normalisation=NORMALISATION,
            training=None,
            measured=(),
        )
        for role in ("victim", "misinformation")
    }
    return write_bundle(
        root, name=name, version="1", description="", labels=tuple("abcd"), networks=networks,
        input=InputSpec(channels=1, height=8, width=8),
    )  # fmt: skip


def test_weights_travel_in_small_files_and_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = bundle(tmp_path / "here")
    monkeypatch.setattr(weights, "LIMIT", 12_000)
    monkeypatch.setattr(weights, "MARGIN", 2000)
    files = weights.pack(original, tmp_path / "out")
    assert len(files) > 2
    assert all(file.stat().st_size <= 12_000 for file in files)
    back = open_bundle(weights.unpack(files[0], tmp_path / "there"))
    images = torch.rand(5, 1, 8, 8)
    for role in ("victim", "misinformation"):
        torch.testing.assert_close(
            back.load(role)(images), open_bundle(original).load(role)(images), atol=0.05, rtol=0.05
        )
    assert back.card.labels == ("a", "b", "c", "d")
    assert weights.unpack(files[0], tmp_path / "there") == back.path

    files[-1].unlink()
    with pytest.raises(ValueError, match=r"lacks .* of toy"):
        weights.unpack(files[0], tmp_path / "elsewhere")
    monkeypatch.setattr(weights, "LIMIT", 2100)
    with pytest.raises(ValueError, match="more than a file of 2,100 holds"):
        weights.pack(original, tmp_path / "tiny")


def test_the_script_is_sound_and_says_how_it_is_used() -> None:
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    shown = subprocess.run([str(SCRIPT)], capture_output=True, text=True, check=False)
    assert shown.returncode == 2
    assert "reproduce.sh STAGE" in shown.stderr
    assert "cifar10-{base,ast" in shown.stderr


def test_rows_are_kept_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a stage that runs out of time had found is in its file, which says so."""
    kept = json.loads((RESULTS / "gpu-fashion-plain-seed0.json").read_text())["rows"]
    first, second = (Row.model_validate(row) for row in kept)

    def trained(stage: Stage, place: run_stage.Place) -> list[str]:
        bundle(place.work / "models", stage.bundle)
        return ["intaglio", "train"]

    def cut_off(*_: object) -> Iterator[run_stage.Theft]:
        yield run_stage.Theft(["intaglio", "attack"], [first], [])
        raise KeyboardInterrupt

    def whole(*_: object) -> Iterator[run_stage.Theft]:
        yield run_stage.Theft(["intaglio", "attack"], [first], [])
        yield run_stage.Theft(["intaglio", "attack"], [second], [])

    monkeypatch.setattr(run_stage, "train", trained)
    monkeypatch.setattr(run_stage, "pack", lambda *_: [])
    for steal, labels, cut in ((cut_off, ["soft"], True), (whole, ["soft", "hard"], False)):
        monkeypatch.setattr(run_stage, "steal", steal)
        place = tmp_path / steal.__name__
        arguments = ["--smoke", "--out", str(place / "out"), "--work", str(place / "work")]
        result = CliRunner().invoke(run_stage.main, ["fashion-plain", *arguments])
        assert (result.exit_code != 0) == cut
        file = place / "out" / "gpu-fashion-plain-seed0.json"
        document = json.loads(file.read_text())
        assert [row["labels"] for row in document["rows"]] == labels
        assert ("was cut off: rows are missing" in " ".join(document["notes"])) == cut


def test_a_stage_is_as_long_as_what_was_measured_of_it() -> None:
    """On the card of the committed rows these took up to 450 of the script's 570 seconds."""
    for name in ("mnist-plain", "mnist-ini", "fashion-plain", "fashion-ini"):
        spent = json.loads((RESULTS / f"gpu-{name}-seed0.json").read_text())["epochs"]
        assert (STAGES[name].epochs, STAGES[name].clone_epochs) == (spent["victim"], spent["clone"])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_stage_runs_on_a_cpu_and_leaves_rows_and_weights_only(tmp_path: Path) -> None:
    environment = {**os.environ, "OUT": str(tmp_path / "out"), "PYTHON": sys.executable,
                   "OMP_NUM_THREADS": "1"}  # fmt: skip

    def stage(name: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(SCRIPT), name, "--smoke"], env=environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip

    refused = stage("cifar10-ast-students")
    assert refused.returncode == 2
    assert "needs cifar10-resnet18, cifar10-resnet18-ast: run its stage first" in " ".join(
        refused.stderr.split()
    )
    made = stage("fashion-plain")
    assert made.returncode == 0, made.stderr
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "gpu-fashion-plain-seed0.json",
        "fashion-resnet18.card.json",
        "fashion-resnet18.0.safetensors",
    }
    document = json.loads((tmp_path / "out" / "gpu-fashion-plain-seed0.json").read_text())
    assert [row["labels"] for row in document["rows"]] == ["soft", "hard"]
    assert document["smoke"]
    assert document["shortened"]
    assert str(tmp_path) not in json.dumps(document["environment"])

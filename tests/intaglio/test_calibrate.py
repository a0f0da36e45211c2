"""``intaglio calibrate modelguard-s``: from a bundle to one with words that can be served."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from intaglio.cli import main
from intaglio.recipe import Recipe
from intaglio.training import train_recipe
from models.bundle import open_bundle
from models.errors import BundleError
from server.repository import load_models
from server.settings import Settings

CPU = torch.device("cpu")
RECIPE: dict[str, Any] = {
    "name": "tiny",
    "architecture": {"name": "cnn-small"},
    "data": {"train": "digits"},
    "plan": {"epochs": 1},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bundles")
    train_recipe(Recipe.model_validate(RECIPE), out=root)
    return root


def run(root: Path, *arguments: str) -> Result:
    command = ["calibrate", "modelguard-s", "tiny/1", "--models", str(root), "--device", "cpu"]
    return CliRunner().invoke(main, [*command, *arguments])


def test_what_training_held_out_becomes_words_of_a_new_version(trained: Path) -> None:
    done = run(trained, "--epsilon", "0.5")
    assert done.exit_code == 0, done.output
    path = Path(done.output.split("bundle ")[1].strip())
    bundle, old = open_bundle(path), open_bundle(trained / "tiny" / "1")
    assert bundle.card.name == "tiny"
    assert int(bundle.card.version) > 1
    assert bundle.card.networks == old.card.networks
    held = bundle.card.codebooks["modelguard-s"]
    assert (held.datasets, held.samples, held.epsilon) == (("digits",), 140, 0.5)
    assert not old.card.codebooks
    words = bundle.codebook("modelguard-s")
    assert words.shape == (held.words, 10)
    assert 10 < held.words < 140
    assert f"{held.words} words answer 100.00% of 140 images" in done.output


def test_it_is_the_same_again_and_another_order_is_not(trained: Path) -> None:
    made = []
    for arguments in ([], [], ["--seed", "1"]):
        done = run(trained, *arguments)
        path = Path(done.output.split("bundle ")[1].strip())
        made.append(hashlib.sha256((path / "codebook.modelguard-s.safetensors").read_bytes()))
    assert made[0].digest() == made[1].digest()
    assert made[0].digest() != made[2].digest()


def test_it_is_served(trained: Path) -> None:
    done = run(trained, "--data", "digits", "--data", "letters", "--limit", "50")
    assert "of 100 images" in done.output
    version = Path(done.output.split("bundle ")[1].strip()).name
    models: dict[str, Any] = {
        "digits": {"victim": f"tiny/{version}", "defenses": [{"kind": "modelguard-s"}]}
    }
    (served,) = load_models(Settings(model_dir=trained, models=models), CPU)
    assert "ModelGuardS(epsilon=1.0, codebook='frozen')" in repr(served.chain)
    assert not served.chain.stateful


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epsilon", "3"], "epsilon: must be an L1 distance between 0 and 2"),
        (["--capacity", "0"], "capacity: must be between 1 and 65536 words"),
        (["--data", "nowhere"], "there is no dataset 'nowhere'"),
    ],
)
def test_mistakes_are_one_sentence(trained: Path, arguments: list[str], message: str) -> None:
    done = run(trained, *arguments)
    assert done.exit_code == 2
    assert message in done.output
    assert "Traceback" not in done.output


def test_words_that_were_changed_are_refused(trained: Path) -> None:
    path = Path(run(trained).output.split("bundle ")[1].strip())
    file = path / "codebook.modelguard-s.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(BundleError, match="sha256"):
        open_bundle(path)

"""``intaglio models import``: weights from elsewhere become a bundle like any other."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import save_file

from intaglio.cli import main
from models.architectures import build
from models.bundle import open_bundle, read_card
from models.card import Normalisation
from models.training.data import to_unit

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
HALF = Normalisation(mean=(0.5,), std=(0.5,))
NETWORK = build(
    "cnn-small", channels=1, size=(28, 28), outputs=10, normalisation=HALF, arguments={"width": 4}
).network


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["models", "import", *arguments], catch_exceptions=False)


def imported(directory: Path, *more: str, weights: str = "weights.safetensors") -> Result:
    return run(
        str(directory / weights), "--name", "mine", "--architecture", "cnn-small", "--argument",
        "width=4", "--input", "1x28x28", "--normalisation", "half", "--out",
        str(directory / "bundles"), *more,
    )  # fmt: skip


@pytest.fixture
def here(tmp_path: Path) -> Path:
    save_file(NETWORK.state_dict(), tmp_path / "weights.safetensors")
    return tmp_path


def test_it_is_a_bundle_with_what_was_measured(here: Path) -> None:
    made = imported(here, "--data", "digits", "--description", "Ours.")
    assert made.exit_code == 0, made.stderr
    assert re.search(r"test accuracy \d+\.\d\d% \(397 images of digits\)", made.stdout)
    path = here / "bundles" / "mine" / "1"
    assert made.stdout.endswith(f"bundle {path}\n")
    card = read_card(path)
    assert (card.labels, card.description) == (tuple("0123456789"), "Ours.")
    assert card.networks["victim"].training is None
    assert card.sensitivity is not None
    assert card.sensitivity.samples == 128
    images = torch.arange(2 * 784, dtype=torch.uint8).reshape(2, 1, 28, 28)
    served = open_bundle(path).load("victim")(to_unit(images))
    with torch.no_grad():
        ours = NETWORK.eval()((to_unit(images) - 0.5) / 0.5)
    np.testing.assert_array_equal(served.numpy(), ours.numpy())
    assert imported(here, "--data", "digits").stdout.endswith("mine/2\n")


def test_names_of_parallel_training_and_half_precision_are_understood(here: Path) -> None:
    halved = copy.deepcopy(NETWORK).half().state_dict()
    save_file(
        {f"module.{name}": value for name, value in halved.items()}, here / "weights.safetensors"
    )
    made = imported(here, "--labels", "a,b,c,d,e,f,g,h,i,j", "--version", "first")
    assert made.exit_code == 0, made.stderr
    weights = open_bundle(here / "bundles" / "mine" / "first").load("victim").state_dict()
    first = next(iter(NETWORK.state_dict()))
    assert weights[f"network.{first}"].dtype == torch.float32


def test_labels_come_from_a_file(here: Path) -> None:
    (here / "labels.txt").write_text("\n".join(f"class {n}" for n in range(10)) + "\n")
    assert imported(here, "--labels", str(here / "labels.txt")).exit_code == 0
    assert read_card(here / "bundles" / "mine" / "1").labels[9] == "class 9"


def test_a_list_of_labels_may_be_longer_than_a_name_of_a_file(here: Path) -> None:
    labels = ",".join(f"{'a class with a long name':0>40}-{n}" for n in range(10))
    made = imported(here, "--labels", labels)
    assert made.exit_code == 0, made.stderr
    assert read_card(here / "bundles" / "mine" / "1").labels[9].endswith("-9")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ((), "give --labels, or --data that has them"),
        (("--labels", "a,b"), "tensor 'classifier.weight' has shape|tensor '.*' has shape"),
        (
            ("--labels", "a,b", "--data", "digits"),
            "digits has other labels than the model: 10 in the one, 2 in the other",
        ),
        (
            ("--labels", "0,2,1,3,4,5,6,7,8,9", "--data", "digits"),
            "digits has the labels of the model in another order: class 1 is '1' in the one, '2'",
        ),
        (("--data", "digits", "--input", "2x28x28"), "--input: channels"),
        (("--data", "digits", "--input", "28"), "'28' is not CxHxW"),
        (("--data", "digits", "--normalisation", "imagenet"), "is for 3 channels, not 1"),
        (("--data", "digits", "--normalisation", ".1,.2/.3,.4"), "is for 2 channels, not 1"),
        (("--data", "digits", "--normalisation", ".1/0"), "is not MEAN/STD"),
        (("--data", "digits", "--argument", "width"), "is not KEY=VALUE"),
        (("--data", "digits", "--argument", "depth=4"), "wrong arguments for architecture"),
        (("--data", "digits", "--architecture", "lenet5"), "there is no architecture 'lenet5'"),
        (("--data", "digits", "--architecture", "mine:net"), "has not been allowed to run"),
        (("--data", "digits", "--name", "../up"), "name"),
        (("--data", "digits", "--out", "/dev/null/x"), "--out /dev/null/x: lies below the file"),
    ],
)
def test_what_does_not_fit_is_one_sentence(here: Path, more: tuple[str, ...], said: str) -> None:
    refused = imported(here, *more)
    assert refused.exit_code == 2
    assert re.search(said, refused.stderr), refused.stderr
    assert "Traceback" not in refused.stderr
    assert not list((here / "bundles").glob("*/*"))


def test_a_pickle_is_named_and_not_loaded(here: Path) -> None:
    torch.save(NETWORK.state_dict(), here / "weights.pt")
    refused = imported(here, "--data", "digits", weights="weights.pt")
    assert refused.exit_code == 2
    assert "is a pickle, which can run code and is never loaded" in refused.stderr
    (here / "noise").write_bytes(b"noise")
    assert "no" in imported(here, "--data", "digits", weights="noise").stderr


def test_the_page_tells_it_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section = PAGE.read_text(encoding="utf-8").partition("## Weights that you already have")[2]
    blocks = re.findall(r"```(?:python|pycon|console)\n(.*?)```", section, re.DOTALL)
    file, saving, command = blocks[:3]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ours.py").write_text(file)
    (tmp_path / "labels.txt").write_text("cat\ndog\nhorse\n")
    loaded = "from ours import network\nmodel = network(channels=3, size=(224, 224), outputs=3)\n"
    monkeypatch.syspath_prepend(str(tmp_path))
    exec(compile(loaded + saving.replace(">>> ", ""), "page", "exec"), {})
    words = command.replace("$ intaglio ", "").replace("\\\n", " ").split()
    made = CliRunner().invoke(main, words, catch_exceptions=False)
    assert made.exit_code == 0, made.stderr
    card = json.loads((tmp_path / "bundles" / "animals" / "1" / "card.json").read_text())
    assert card["networks"]["victim"]["architecture"] == "ours.py:network"
    assert card["labels"] == ["cat", "dog", "horse"]

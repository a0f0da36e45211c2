"""Bundles from people one should not trust: each is refused, with a sentence, running nothing."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save

from models.bundle import open_bundle, read_card
from models.bundle.reading import LARGEST_CARD
from models.errors import BundleError, BundleNotFound, FactoryRefused
from tests.models.builders import edit_card, replace_weights, tiny_bundle

HEAD = "network.classifier.weight"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tiny_bundle(tmp_path)


def tensors(path: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(path / "victim.safetensors"))


def test_a_flipped_bit_is_found_before_anything_is_parsed(path: Path) -> None:
    file = path / "victim.safetensors"
    for position in (0, 9, -1):
        data = bytearray(file.read_bytes())
        data[position] ^= 1
        file.write_bytes(data)
        with pytest.raises(BundleError, match="is not the file its card describes"):
            open_bundle(path)
        data[position] ^= 1
        file.write_bytes(data)
    open_bundle(path)


def test_a_file_changed_after_the_check_is_found_by_the_load(path: Path) -> None:
    bundle = open_bundle(path)
    file = path / "victim.safetensors"
    file.write_bytes(file.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(BundleError, match="is not the file its card describes"):
        bundle.load("victim")


class Trap:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return (os.mkdir, (str(self.target),))


def test_a_pickle_in_disguise_is_not_unpickled(path: Path, tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    archive = tmp_path / "weights.pt"
    torch.save({"weights": Trap(sprung)}, archive)
    for data in (pickle.dumps(Trap(sprung)), archive.read_bytes(), b"", b"\xff" * 64):
        replace_weights(path, data)
        with pytest.raises(BundleError, match="is not a valid safetensors file"):
            open_bundle(path).load("victim")
    assert not sprung.exists()


def wrong_shape(state: dict[str, torch.Tensor]) -> None:
    state[HEAD] = state[HEAD].T.contiguous()


def missing(state: dict[str, torch.Tensor]) -> None:
    del state[HEAD]


def surplus(state: dict[str, torch.Tensor]) -> None:
    state["network.backdoor.weight"] = torch.zeros(2)


def wrong_type(state: dict[str, torch.Tensor]) -> None:
    state[HEAD] = state[HEAD].to(torch.float16)


def not_a_number(state: dict[str, torch.Tensor]) -> None:
    state[HEAD][0, 0] = float("nan")


def infinite(state: dict[str, torch.Tensor]) -> None:
    state["network.features.1.running_var"][0] = float("inf")


@pytest.mark.parametrize(
    ("poison", "sentence"),
    [
        (wrong_shape, "'network.classifier.weight' has shape 64x3 where cnn-small needs 3x64"),
        (missing, "lacks the tensor 'network.classifier.weight'"),
        (surplus, "holds a tensor 'network.backdoor.weight' that cnn-small does not have"),
        (wrong_type, "is torch.float16 where cnn-small needs torch.float32"),
        (not_a_number, "'network.classifier.weight' holds NaN or infinite values"),
        (infinite, "'network.features.1.running_var' holds NaN or infinite values"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    path: Path, poison: Callable[[dict[str, torch.Tensor]], None], sentence: str
) -> None:
    state = tensors(path)
    poison(state)
    replace_weights(path, save(state))
    with pytest.raises(BundleError, match=sentence):
        open_bundle(path).load("victim")


def network(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda card: card["networks"]["victim"].update(changes)


def top(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda card: card.update(changes)


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (network(file="../../other.safetensors"), "networks.victim.file"),
        (network(file="/etc/passwd"), "networks.victim.file"),
        (network(file="other.safetensors"), "networks.victim.file must be victim.safetensors"),
        (network(sha256="0" * 63), "networks.victim.sha256"),
        (network(architecture="alexnet"), "networks.victim.architecture: there is no architecture"),
        (network(outputs=4), "4 outputs but there are 3 labels"),
        (network(outputs=0), "networks.victim.outputs"),
        (network(pickle="yes"), "networks.victim.pickle"),
        (network(normalisation={"mean": [0.5], "std": [0.0]}), "normalisation.std"),
        (network(arguments={"width": [1]}), "networks.victim.arguments.width"),
        (top(format=2), "format"),
        (top(version="2"), "version is '2' but its directory is '1'"),
        (top(name="mnist"), "name is 'mnist' but its directory is 'toy'"),
        (top(name="../../tmp"), "name"),
        (top(labels=["a", "b", "b"]), "labels must be distinct"),
        (top(networks={}), "networks"),
        (top(input={"channels": 2, "height": 8, "width": 8}), "input.channels"),
    ],
)
def test_cards_that_lie_are_refused_by_key(
    path: Path, edit: Callable[[dict[str, Any]], object], sentence: str
) -> None:
    edit_card(path, edit)
    with pytest.raises(BundleError, match=sentence):
        open_bundle(path)


def test_a_network_too_large_to_exist_is_refused_without_being_allocated(path: Path) -> None:
    edit_card(path, network(arguments={"width": 2**20}))
    with pytest.raises(BundleError, match="has shape 2x1x3x3 where cnn-small needs 1048576x1x3x3"):
        open_bundle(path).load("victim")


def test_arguments_that_the_architecture_does_not_take_are_refused(path: Path) -> None:
    edit_card(path, network(arguments={"depth": 2}))
    with pytest.raises(BundleError, match=r"networks\.victim: wrong arguments.*it takes width"):
        open_bundle(path).load("victim")


def test_a_card_cannot_call_code(path: Path, tmp_path: Path) -> None:
    trap = tmp_path / "trap.py"
    trap.write_text(f"import os\nos.mkdir({str(tmp_path / 'sprung')!r})\n")
    for factory in ("os:system", f"{trap}:factory"):
        edit_card(path, network(architecture=factory, arguments={}))
        with pytest.raises(FactoryRefused, match=f"--allow-factory {factory}"):
            open_bundle(path)
        assert read_card(path).networks["victim"].architecture == factory
    assert not (tmp_path / "sprung").exists()


def test_links_out_of_the_bundle_are_refused(path: Path, tmp_path: Path) -> None:
    for name in ("victim.safetensors", "card.json"):
        outside = (path / name).rename(tmp_path / name)
        (path / name).symlink_to(outside)
        with pytest.raises(BundleError, match=f"{name} is not a regular file"):
            open_bundle(path)
        (path / name).unlink()
        outside.rename(path / name)
    open_bundle(path)


def test_a_missing_file_or_a_pipe_does_not_hang(path: Path) -> None:
    (path / "victim.safetensors").unlink()
    with pytest.raises(BundleError, match=r"victim.safetensors is missing"):
        open_bundle(path)
    os.mkfifo(path / "victim.safetensors")
    with pytest.raises(BundleError, match="is not a regular file"):
        open_bundle(path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("\ud800".encode("utf-8", "surrogatepass").decode("latin-1"), "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "card.json: card: must be a mapping"),
        ("{}", "card.json: name: field required"),
        (" " * (LARGEST_CARD + 1), "the limit for a card"),
    ],
)
def test_cards_that_are_no_cards(path: Path, text: str, sentence: str) -> None:
    (path / "card.json").write_text(text, encoding="latin-1")
    with pytest.raises(BundleError, match=sentence):
        open_bundle(path)


def test_no_card_is_no_bundle(path: Path) -> None:
    (path / "card.json").unlink()
    with pytest.raises(BundleNotFound, match=r"holds no card.json"):
        open_bundle(path)

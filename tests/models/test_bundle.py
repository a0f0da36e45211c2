"""Bundles: what is written is what is read, all of it or nothing, and the right version."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from models.architectures import build
from models.bundle import (
    NetworkSource,
    find_bundles,
    open_bundle,
    publishing,
    read_card,
    resolve_bundle,
    write_bundle,
)
from models.bundle.finding import version_key
from models.card import Calibration, InputSpec
from models.errors import BundleError, BundleNotFound, FactoryRefused
from tests.models.builders import HALF, SPEC, replace_weights, source, tiny_bundle


def test_a_bundle_gives_back_what_was_written(tmp_path: Path) -> None:
    victim, other = source(1), source(2)
    # Statistics that a fresh network does not have.
    victim.module(torch.rand(16, 1, 8, 8))
    path = tiny_bundle(tmp_path, victim=victim, misinformation=other)
    assert path == tmp_path / "toy" / "1"
    assert victim.module.training

    bundle = open_bundle(path)
    images = torch.rand(5, 1, 8, 8)
    for role, written in (("victim", victim), ("misinformation", other)):
        loaded = bundle.load(role)
        assert not loaded.training
        assert not any(parameter.requires_grad for parameter in loaded.parameters())
        assert torch.equal(loaded(images), written.module.eval()(images))
    assert bundle.card.networks["victim"].training == victim.training
    assert bundle.card.networks["victim"].measured == victim.measured
    assert bundle.card.networks["victim"].outputs == 3
    assert bundle.path == path
    assert repr(bundle) == "Bundle(toy/1)"


def test_reading_leaves_the_callers_random_numbers_alone(tmp_path: Path) -> None:
    path = tiny_bundle(tmp_path)
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    open_bundle(path).load("victim")
    assert torch.equal(torch.rand(3), expected)


def test_an_unknown_role_gets_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no network 'hash': it has victim"):
        open_bundle(tiny_bundle(tmp_path)).load("hash")


def test_a_version_is_never_overwritten(tmp_path: Path) -> None:
    path = tiny_bundle(tmp_path, victim=source(1))
    before = (path / "card.json").read_bytes()
    with pytest.raises(BundleError, match="never overwritten"):
        tiny_bundle(tmp_path, victim=source(2))
    assert (path / "card.json").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["toy"]


def test_what_could_not_be_read_back_is_not_written(tmp_path: Path) -> None:
    good = source()
    nan = source(3)
    with torch.no_grad():
        next(nan.module.parameters()).fill_(float("nan"))
    for wrong, sentence in (
        (replace(good, architecture="cnn5"), "networks.victim: wrong arguments"),
        (replace(good, architecture="cnn5", arguments={}), "lacks the tensor"),
        (replace(good, arguments={"width": 3}), "shape 2x1x3x3 where cnn-small needs 3x1x3x3"),
        (nan, "NaN"),
        (source(outputs=4), "4 outputs but there are 3 labels"),
    ):
        with pytest.raises(BundleError, match=sentence):
            tiny_bundle(tmp_path, victim=wrong)
    with pytest.raises(BundleError, match="labels must be distinct"):
        write_bundle(
            tmp_path,
            name="toy",
            version="1",
            description="",
            input=SPEC,
            labels=("a", "a", "b"),
            networks={"victim": good},
        )
    with pytest.raises(BundleError, match="name"):
        tiny_bundle(tmp_path, name="../toy")
    with pytest.raises(BundleError, match="fails on one image"):
        write_bundle(
            tmp_path,
            name="toy",
            version="1",
            description="",
            input=InputSpec(channels=3, height=8, width=8),
            labels=("a", "b", "c"),
            networks={"victim": good},
        )
    assert not any(tmp_path.rglob("card.json"))


def test_a_kill_before_the_rename_leaves_nothing_visible(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        from models.bundle import publishing
        from tests.models.builders import tiny_bundle

        def die(hidden, target):
            assert (hidden / "card.json").is_file()
            os.kill(os.getpid(), signal.SIGKILL)

        publishing._rename = die
        tiny_bundle(Path(sys.argv[1]))
        """
    )
    finished = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == -signal.SIGKILL, finished.stderr.decode()
    assert any(tmp_path.iterdir())
    assert find_bundles(tmp_path) == ()
    tiny_bundle(tmp_path)
    assert len(find_bundles(tmp_path)) == 1


def test_a_failed_write_cleans_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        tiny_bundle(tmp_path)
    monkeypatch.undo()
    assert not [entry for entry in os.listdir(tmp_path) if entry.startswith(".")]
    assert find_bundles(tmp_path) == ()


def test_versions_sort_as_numbers(tmp_path: Path) -> None:
    network = source()
    for version in ("10", "2", "1.9", "1.10", "1.10-rc1"):
        tiny_bundle(tmp_path, version=version, victim=network)
    tiny_bundle(tmp_path, name="other", victim=network)
    versions = [path.name for path in find_bundles(tmp_path) if path.parent.name == "toy"]
    assert versions.index("1.9") < versions.index("1.10") < versions.index("2")
    assert versions[-2:] == ["2", "10"]
    assert version_key("1²") < version_key("2")  # a digit that is no number
    assert resolve_bundle(tmp_path, "toy").name == "10"
    assert resolve_bundle(tmp_path, "toy/1.9").name == "1.9"
    for wanted in ("toy/3", "mnist", "toy/../other", ""):
        with pytest.raises(BundleNotFound, match=r"which holds other/1, toy/1\.9"):
            resolve_bundle(tmp_path, wanted)


def test_looking_where_nothing_is(tmp_path: Path) -> None:
    assert find_bundles(tmp_path / "absent") == ()
    with pytest.raises(BundleNotFound, match="holds no bundle"):
        resolve_bundle(tmp_path, "toy")
    with pytest.raises(BundleNotFound, match="is not a bundle"):
        open_bundle(tmp_path)
    (tmp_path / "README").write_text("not a bundle")
    (tmp_path / "toy").mkdir()
    assert find_bundles(tmp_path) == ()


def test_calibrations_survive(tmp_path: Path) -> None:
    table = Calibration(
        dataset="toy",
        samples=4,
        reference=0.75,
        thresholds=(0.1, 0.5),
        accuracies=(0.75, 0.5),
        rejected=(0.0, 1 / 3),
    )
    path = write_bundle(
        tmp_path,
        name="toy",
        version="1",
        description="",
        input=SPEC,
        labels=("a", "b", "c"),
        networks={"victim": source()},
        calibrations={"am": table},
    )
    assert read_card(path).calibrations == {"am": table}


FLAT = """
from torch import nn

def flat(*, channels, size, outputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size[0] * size[1], outputs))
"""


def test_a_factory_of_the_operators_own_is_loaded_where_it_is_allowed(tmp_path: Path) -> None:
    code = tmp_path / "nets.py"
    code.write_text(FLAT)
    name = f"{code}:flat"
    module = build(
        name, channels=1, size=(8, 8), outputs=3, normalisation=HALF, allow_factories=[name]
    )
    own = NetworkSource(module=module, architecture=name, normalisation=HALF)
    path = tiny_bundle(tmp_path / "models", victim=own)
    with pytest.raises(FactoryRefused, match="--allow-factory"):
        open_bundle(path)
    images = torch.rand(2, 1, 8, 8)
    loaded = open_bundle(path, allow_factories=[name]).load("victim")
    assert torch.equal(loaded(images), module(images))
    # Code that changed since has other weights, and is told so.
    replace_weights(path, save({"network.1.weight": torch.zeros(3, 64)}))
    with pytest.raises(BundleError, match=r"lacks the tensor 'network\.1\.bias'"):
        open_bundle(path, allow_factories=[name]).load("victim")


def test_of_two_writers_of_one_version_the_second_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = publishing._rename

    def overtaken(hidden: Path, target: Path) -> None:
        monkeypatch.setattr(publishing, "_rename", rename)
        tiny_bundle(tmp_path, victim=source(1))
        rename(hidden, target)

    monkeypatch.setattr(publishing, "_rename", overtaken)
    with pytest.raises(BundleError, match="never overwritten"):
        tiny_bundle(tmp_path, victim=source(2))
    first = open_bundle(tmp_path / "toy" / "1").load("victim").state_dict()
    assert all(
        torch.equal(tensor, first[name]) for name, tensor in source(1).module.state_dict().items()
    )
    assert os.listdir(tmp_path) == ["toy"]

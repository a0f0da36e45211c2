"""An operator's own code: run only if allowed, under a private name, checked for what it makes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import models
from models.architectures import build
from models.card import Normalisation
from models.errors import ArchitectureError, FactoryRefused

HALF = Normalisation(mean=(0.5,), std=(0.5,))

SOURCE = """
from dataclasses import dataclass
from torch import nn

@dataclass
class Shape:
    features: int

def flat(*, channels, size, outputs, bias=True):
    shape = Shape(channels * size[0] * size[1])
    return nn.Sequential(nn.Flatten(), nn.Linear(shape.features, outputs, bias=bias))

def no_module(**_): return 3
def wrong_width(*, channels, size, outputs): return flat(channels=channels, size=size, outputs=5)
def crashes(*, channels, size, outputs): return nn.Linear(1, 1)
def picky(*, channels, size, outputs): assert size == (32, 32), "made for 32x32"
number = 7
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "models.py"  # the name people give it, and ours
    path.write_text(SOURCE)
    return path


def made(name: str, *allow: str, bias: bool = True) -> nn.Module:
    return build(
        name,
        channels=1,
        size=(4, 4),
        outputs=2,
        normalisation=HALF,
        arguments={} if bias else {"bias": False},
        allow_factories=allow,
    )


def test_an_allowed_file_is_called_and_ours_stays_ours(file: Path) -> None:
    before, path = set(sys.modules), list(sys.path)
    network = made(f"{file}:flat", f"{file}:flat", bias=False)
    assert sum(parameter.numel() for parameter in network.parameters()) == 32
    assert torch.isfinite(network(torch.zeros(1, 1, 4, 4))).all()
    assert sys.modules["models"] is models
    assert sys.path == path
    assert all(name.startswith("_intaglio_factory_") for name in set(sys.modules) - before)


def test_one_file_may_be_written_in_several_ways(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    first = made("models.py:flat", f"{file}:flat")
    second = made(f"{file}:flat", "../" + file.parent.name + "/models.py:flat")
    assert type(first) is type(second)


def test_a_bundle_that_was_moved_runs_the_file_that_was_allowed(file: Path, tmp_path: Path) -> None:
    trap = tmp_path / "elsewhere" / "models.py"
    trap.parent.mkdir()
    trap.write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')\n{SOURCE}")
    for said in (f"{trap}:flat", "authors/own/models.py:flat"):
        network = made(said, f"{file}:flat", "os:getcwd")
        assert network(torch.zeros(1, 1, 4, 4)).shape == (1, 2)
    assert not (tmp_path / "sprung").exists()
    with pytest.raises(FactoryRefused, match="--allow-factory"):
        made("authors/own/models.py:crashes", f"{file}:flat")
    with pytest.raises(FactoryRefused, match=r"could be any of .*: list one"):
        made("authors/own/models.py:flat", f"{file}:flat", f"{trap}:flat")


@pytest.mark.parametrize("allowed", [(), ("os:getcwd",), ("other.py:system",), ("os",)])
def test_what_is_not_listed_is_neither_imported_nor_called(
    tmp_path: Path, allowed: tuple[str, ...]
) -> None:
    trap = tmp_path / "trap.py"
    trap.write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')\ndef system(**_): ...\n")
    for name in (f"{trap}:system", "os:system"):
        with pytest.raises(FactoryRefused, match=f"--allow-factory {name}"):
            made(name, *allowed)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("attribute", "sentence"),
    [
        ("absent", "has no callable 'absent'"),
        ("number", "has no callable 'number'"),
        ("no_module", "made a int, not a torch.nn.Module"),
        ("wrong_width", r"shape \(1, 2\) for one image, not \(1, 5\)"),
        ("crashes", "fails on one image of 1x4x4"),
        ("picky", "cannot be made for 2 outputs of images of 1x4x4: AssertionError: made for 32x"),
    ],
)
def test_a_factory_that_makes_something_else_gets_a_sentence(
    file: Path, attribute: str, sentence: str
) -> None:
    with pytest.raises(ArchitectureError, match=sentence):
        made(f"{file}:{attribute}", f"{file}:{attribute}")


def test_a_file_that_fails_to_import_can_be_mended(tmp_path: Path) -> None:
    path = tmp_path / "net.py"
    name = f"{path}:flat"
    with pytest.raises(ArchitectureError, match="cannot be imported: FileNotFoundError"):
        made(name, name)
    path.write_text("1 / 0")
    with pytest.raises(ArchitectureError, match="cannot be imported: ZeroDivisionError"):
        made(name, name)
    path.write_text(SOURCE + "\n# a different length, for the byte-code cache\n")
    assert isinstance(made(name, name), nn.Module)


def test_a_module_that_is_not_installed_gets_a_sentence() -> None:
    with pytest.raises(ArchitectureError, match="ModuleNotFoundError"):
        made("no_such_package.nets:flat", "no_such_package.nets:flat")

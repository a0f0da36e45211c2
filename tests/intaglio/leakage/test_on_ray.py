"""The same matrix on Ray, on this machine; skipped where ray is not installed."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import yaml
from click.testing import CliRunner

from intaglio.cli import main
from intaglio.leakage.bench import Bench
from intaglio.leakage.errors import LeakageError
from intaglio.leakage.on_ray import _settled, _takes_gpus, _work
from tests.attack_client.conftest import Serve
from tests.attack_client.stub import LinearModel, Stub
from tests.intaglio.leakage.conftest import matrix_of


def test_a_node_that_does_not_see_the_directory_says_so(tmp_path: Path) -> None:
    bench = Bench(matrix=matrix_of(""), defense="none", seed=0, cells=(), out=tmp_path)
    with pytest.raises(LeakageError, match="give an --out that all nodes share"):
        _work(bench, str(tmp_path / "nowhere"), str(tmp_path))


def test_a_node_works_where_the_command_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path.cwd())  # and back
    (witness := tmp_path / "witness").touch()
    bench = Bench(matrix=matrix_of(""), defense="none", seed=0, cells=(), out=tmp_path)
    _work(bench, str(witness), str(tmp_path / "nowhere"))
    assert Path.cwd() != tmp_path
    _work(bench, str(witness), str(tmp_path))
    assert Path.cwd() == tmp_path


@pytest.mark.parametrize(
    ("device", "gpus", "taken"),
    [("auto", 0.0, False), ("auto", 2.0, True), ("cpu", 2.0, False), ("cuda:1", 1.0, True)],
)
def test_tasks_ask_for_a_gpu_that_some_node_has(device: str, gpus: float, taken: bool) -> None:
    cluster = SimpleNamespace(cluster_resources=lambda: {"CPU": 4.0, "GPU": gpus})
    assert _takes_gpus(device, cluster) is taken


def test_a_gpu_that_no_node_has_is_a_sentence() -> None:
    cluster = SimpleNamespace(cluster_resources=lambda: {"CPU": 4.0})
    with pytest.raises(LeakageError, match="--device cuda: no node of the cluster has a GPU"):
        _takes_gpus("cuda", cluster)


def test_files_of_a_matrix_are_found_from_any_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").touch()
    victims = {
        "own": {"recipe": "mine.yaml"},
        "row": {"recipe": "mine.yaml/a"},
        "shipped": {"recipe": "digits-plain"},
        "there": {"bundle": "bundles/a/1"},
    }
    found = _settled(matrix_of("", victims=victims)).victims
    assert found["own"].recipe == str(tmp_path / "mine.yaml")
    assert found["row"].recipe == f"{tmp_path / 'mine.yaml'}/a"
    assert found["shipped"].recipe == "digits-plain"
    assert found["there"].bundle == tmp_path / "bundles" / "a" / "1"


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_a_cluster_that_is_not_there_is_a_sentence(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))  # asked for nothing
    monkeypatch.setenv("RAY_ADDRESS", address)
    args = ["leakage", "digits", "--ray", "--only", "defense=none,seed=0", "--out", str(tmp_path)]
    result = CliRunner().invoke(main, args)
    assert result.exit_code == 2
    assert f"--ray: no cluster answers at {address}" in result.output


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.filterwarnings("ignore")
def test_a_matrix_on_ray(
    model: LinearModel,
    serve: Serve,
    npz_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("INTAGLIO_DATA_ROOT", str(npz_root))
    path, out = tmp_path / "matrix.yaml", tmp_path / "out"
    with serve(Stub(model)) as url:
        matrix = matrix_of(url, attacks={"knockoff": {"labels": ["soft"]}})
        path.write_text(yaml.safe_dump(matrix.model_dump(mode="json", exclude_defaults=True)))
        result = CliRunner().invoke(main, ["leakage", str(path), "--ray", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "4 of 4 cells are done." in result.output
    assert not list(out.glob(".shared-*"))

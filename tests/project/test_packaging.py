"""What is shipped, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import intaglio

ROOT = Path(__file__).parents[2]
PACKAGES = {"models", "defenses", "server", "attack_client", "intaglio"}


def test_wheel_holds_exactly_our_packages(tmp_path: Path) -> None:
    subprocess.run(
        [
            sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
            "--wheel-dir", str(tmp_path), str(ROOT),
        ],
        check=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == PACKAGES
    for package in PACKAGES:
        assert f"{package}/py.typed" in names
    recipes = {
        str(path.relative_to(ROOT)) for path in (ROOT / "intaglio" / "recipes").rglob("*.yaml")
    }
    assert recipes == {n for n in names if n.startswith("intaglio/recipes/")}


def test_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == intaglio.__version__
    assert f"## {intaglio.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_help_imports_nothing_heavy() -> None:
    seen = subprocess.run(
        [
            sys.executable, "-c",
            "import sys; from click.testing import CliRunner; from intaglio.cli import main\n"
            "assert CliRunner().invoke(main, ['--help']).exit_code == 0\n"
            "print(sorted({'torch', 'numpy', 'fastapi', 'httpx'} & set(sys.modules)))",
        ],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert seen.stdout.strip() == "[]"


def test_an_attackers_machine_needs_no_server_library() -> None:
    seen = subprocess.run(
        [
            sys.executable, "-c",
            "import sys; import attack_client.cli, attack_client.http_victim\n"
            "print(sorted({'fastapi', 'starlette', 'uvicorn', 'prometheus_client', 'redis'} "
            "& {name.split('.')[0] for name in sys.modules}))",
        ],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert seen.stdout.strip() == "[]"


def test_a_users_own_models_package_does_not_shadow_ours(tmp_path: Path) -> None:
    (tmp_path / "models.py").write_text("raise RuntimeError('the wrong models')\n")
    for package in ("server", "attack_client"):
        command = [sys.executable, "-m", package, "--help"]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    # --help imports little; a mistake in the settings is found by everything that matters.
    command = [sys.executable, "-m", "server", "--models", "nowhere", "--device", "cpu"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "the wrong models" not in ended.stderr
    assert "nowhere" in ended.stderr


def test_nothing_unpickles() -> None:
    for package in sorted(PACKAGES):
        for path in (ROOT / package).rglob("*.py"):
            source = path.read_text(encoding="utf-8")
            for forbidden in ("import pickle", "torch.load(", "allow_pickle=True", "joblib"):
                assert forbidden not in source, f"{path}: {forbidden}"

"""The files that images and stacks are made from, checked without an engine."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from server.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
OVERRIDES = sorted(ROOT.glob("compose.*.yaml"))
BIN = Path(sys.executable).parent


def tool(name: str) -> str:
    """Where a program is that comes with our development dependencies."""
    found = shutil.which(name, path=f"{BIN}{os.pathsep}{os.environ['PATH']}")
    assert found is not None, f"{name} is not installed: pip install 'intaglio[dev]'"
    return found


def services(path: Path = COMPOSE) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text())["services"]
    return found


def test_the_dockerfile_is_clean() -> None:
    done = subprocess.run(
        [tool("hadolint"), "--no-color", "docker/Dockerfile"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", [COMPOSE, *OVERRIDES], ids=lambda path: path.name)
def test_compose_files_follow_the_specification(path: Path) -> None:
    done = subprocess.run(
        [tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_an_image_installs_what_pyproject_asks_for(tmp_path: Path) -> None:
    namespace = runpy.run_path(str(ROOT / "docker/requirements.py"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    requirements = namespace["requirements"]
    text = (ROOT / "pyproject.toml").read_text()
    assert set(requirements(text, [])) == set(project["dependencies"])
    assert set(requirements(text, ["attack"])) == {*project["dependencies"], *extras["attack"]}
    demo = {*project["dependencies"], *extras["data"], *extras["server"], *extras["attack"]}
    assert set(requirements(text, ["demo"])) == demo
    torch = (ROOT / "docker/torch.txt").read_text().split()
    assert torch == [line for line in project["dependencies"] if line.startswith("torch")]


def test_an_image_is_built_from_what_the_build_sees() -> None:
    seen = (ROOT / ".dockerignore").read_text().split()
    lines = (ROOT / "docker/Dockerfile").read_text().splitlines()
    copied = {
        word
        for line in lines
        if line.startswith("COPY") and "--from" not in line
        for word in line.split()[1:-1]
        if not word.startswith("--")
    }
    assert copied
    assert {f"!{name}" for name in copied} == {word for word in seen if word.startswith("!")}
    for name in copied:
        assert (ROOT / name).exists()


def test_every_image_is_pinned() -> None:
    for path in (COMPOSE, *OVERRIDES):
        for name, service in services(path).items():
            image = service.get("image", "")
            if not image or "intaglio" in image:
                continue
            tag = image.partition(":")[2]
            assert tag[:2].strip("v")[:1].isdigit(), f"{name}: {image}"
            assert tag != "latest"


@pytest.mark.parametrize("path", [COMPOSE, ROOT / "compose.replicas.yaml"], ids=lambda p: p.name)
def test_no_service_may_more_than_it_must(path: Path) -> None:
    for name, service in services(path).items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["deploy"]["resources"]["limits"].keys() >= {"cpus", "memory"}, name
        assert not service.get("privileged"), name
        assert service["logging"]["options"].keys() >= {"max-size", "max-file"}, name
        for port in service.get("ports", ()):
            assert ":-127.0.0.1:" in port, f"{name}: {port}"
        if "build" not in service:  # our own image says so itself
            user = service["user"].partition(":")[0]
            assert user.isdigit()
            assert int(user) > 0


READ_AT_START = {"./docker/redis.conf"}
"""Files that nobody reads again while a container runs."""


def test_what_may_change_is_mounted_as_a_directory() -> None:
    """Who replaces a file, as editors do, changes nothing in a container that mounts the file."""
    found = set()
    for path in (COMPOSE, *OVERRIDES):
        for service in services(path).values():
            for volume in service.get("volumes", ()):
                source = volume.removeprefix("${INTAGLIO_CONFIG:-").partition(":")[0].rstrip("}")
                if source.startswith("./"):
                    found.add(source)
                    assert (ROOT / source).exists(), source
    assert {source for source in found if not (ROOT / source).is_dir()} == READ_AT_START
    assert "./docker/server" in found


def test_the_container_configuration_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("INTAGLIO_")]:
        monkeypatch.delenv(name)
    environment = services()["server"]["environment"]
    for name, value in environment.items():
        default = value.partition(":-")[2].rstrip("}") if value.startswith("${") else value
        monkeypatch.setenv(name, default)
    monkeypatch.setenv("INTAGLIO_MODEL_DIR", "/models")
    settings = load_settings(ROOT / "docker/server/server.yaml")
    assert isinstance(settings, Settings)
    assert settings.models["digits"].victim == "digits-plain"
    assert settings.models["digits"].defenses
    stop_s = services()["server"]["stop_grace_period"]
    assert int(stop_s.removesuffix("s")) > settings.drain_s


class TestFirstStart:
    """docker/first-start.sh, with a stand-in for the training."""

    @pytest.fixture
    def run(self, tmp_path: Path) -> Any:
        trainer = tmp_path / "bin" / "intaglio"
        trainer.parent.mkdir()
        trainer.write_text('#!/bin/sh\necho "$@" >"$INTAGLIO_MODEL_DIR/asked"\n')
        trainer.chmod(0o755)
        models = tmp_path / "models"
        models.mkdir()

        def start(*files: Path) -> str:
            return subprocess.run(
                ["sh", str(ROOT / "docker/first-start.sh"), *map(str, files)],
                env={
                    "PATH": f"{trainer.parent}:{BIN}:{os.environ['PATH']}",
                    "INTAGLIO_MODEL_DIR": str(models),
                },
                capture_output=True,
                text=True,
                check=True,
            ).stdout

        return start

    def test_an_empty_volume_gets_a_model_and_a_missing_password_is_made(
        self, run: Any, tmp_path: Path
    ) -> None:
        password = tmp_path / "password"
        said = run(password)
        assert len(password.read_text().strip()) > 30
        assert password.stat().st_mode & 0o777 == 0o444
        assert password.read_text().strip() not in said
        assert "train digits-plain" in (tmp_path / "models/asked").read_text()

    def test_what_is_there_stays(self, run: Any, tmp_path: Path) -> None:
        password = tmp_path / "password"
        password.write_text("mine")
        card = tmp_path / "models/own/1/card.json"
        card.parent.mkdir(parents=True)
        card.write_text("{}")
        run(password)
        assert password.read_text() == "mine"
        assert not (tmp_path / "models/asked").exists()

    def test_passwords_differ(self, run: Any, tmp_path: Path) -> None:
        run(tmp_path / "one", tmp_path / "other")
        assert (tmp_path / "one").read_text() != (tmp_path / "other").read_text()

"""``intaglio serve`` up to the point where it would serve."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from defenses.registry import BUILT_IN
from server.cli import LINKS, serve
from server.settings import Settings


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings that would have been served."""
    seen: list[Settings] = []

    def run(settings: Settings, read: Callable[[], Settings]) -> int:
        assert read().model_dump() == settings.model_dump(), "a reload reads what the start read"
        seen.append(settings)
        return 0

    monkeypatch.setattr("server.lifecycle.run", run)
    return seen


def invoke(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(serve, list(arguments), env=environment)


def test_help_needs_neither_torch_nor_fastapi() -> None:
    code = (
        "import sys, server.cli\n"
        "assert not {'torch', 'fastapi', 'uvicorn', 'numpy', 'pydantic'} & set(sys.modules)\n"
        "server.cli.serve(['--help'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--allow-factory" in done.stdout


def test_flags_become_settings(served: list[Settings], tmp_path: Path) -> None:
    config = tmp_path / "server.yaml"
    config.write_text("model_dir: /elsewhere\nbatching: {max_wait_ms: 5}\nport: 1\n")
    result = invoke(
        *("--models", "/m", "--config", str(config), "--port", "0", "--device", "cpu"),
        *("--allow-factory", "a:b", "--allow-factory", "c:d"),
        *("--set", "batching.max_batch_size=32", "--set", "models.shop.defenses=[{kind: am}]"),
    )
    assert (result.exit_code, result.output) == (0, "")
    settings = served[0]
    assert (settings.model_dir, settings.port, settings.device) == (Path("/m"), 0, "cpu")
    assert settings.allow_factories == ("a:b", "c:d")
    assert (settings.batching.max_batch_size, settings.batching.max_wait_ms) == (32, 5)
    assert settings.models["shop"].defenses == ({"kind": "am"},)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Error: model_dir: this setting is required"),
        (("--models", "/m", "--port", "99999"), "Error: port: "),
        (("--models", "/m", "--device", "tpu"), "Error: device: "),
        (("--models", "/m", "--set", "prot=3"), "Error: prot: there is no such setting"),
        (("--models", "/m", "--set", "port"), "'port' is not KEY=VALUE"),
        (("--models", "/m", "--set", "port=["), "the value of 'port' is not YAML"),
        (("--set", "port=2026-99-99"), "'port' is not YAML: a value cannot be read as timestamp"),
        (("--set", f"port={5000 * '['}"), "'port' is not YAML: it is nested too deeply"),
        (("--set", "limits={a: 1, a: 2}"), "the key 'a' is given twice"),
        (("--models", "/m", "--set", "_env_file=x"), "Error: _env_file: there is no such setting"),
        (("--models", "/m", "--set", "config=x"), "Error: config: there is no such setting"),
        (("--models", "/m", "--set", "port=1", "--set", "port.x=1"), "'port.x' sets a part"),
        (("--config", "/nowhere.yaml"), "Error: config: there is no file /nowhere.yaml"),
    ],
)
def test_mistakes_are_one_sentence_and_exit_2(
    served: list[Settings], arguments: tuple[str, ...], message: str
) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output
    assert served == []


def test_what_cannot_be_served_exits_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def configured(*arguments: Any) -> None:
        del arguments

    monkeypatch.setattr("server.lifecycle.configure_logs", configured)
    result = invoke(
        "--models",
        str(tmp_path),
        "--port",
        "0",
        "--admin-port",
        "0",
        "--set",
        f"secret_file={tmp_path / 'secret'}",
    )
    assert result.exit_code == 2
    assert result.output.startswith("Error: model_dir: there is no bundle NAME/VERSION under")


def test_help_names_every_defense_that_comes_with_the_server() -> None:
    assert set(LINKS) == set(BUILT_IN)
    shown = CliRunner().invoke(serve, ["--help"]).output
    assert all(kind in shown for kind in LINKS)

"""The command as a whole: what it lists, what it says when a role's libraries are missing."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

from intaglio.cli import COMMANDS, EXTRAS, main

BLOCKED = """
import sys
sys.modules[{library!r}] = None
from intaglio.cli import main
main({arguments!r})
"""


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_listed_and_has_help(name: str) -> None:
    assert name in CliRunner().invoke(main, ["--help"]).output
    asked = CliRunner().invoke(main, [name, "--help"])
    assert asked.exit_code == 0
    assert "Usage" in asked.output


def test_an_unknown_command_is_a_sentence() -> None:
    asked = CliRunner().invoke(main, ["stael"])
    assert asked.exit_code == 2
    assert "No such command" in asked.output


SERVE = "serve --models ."
ATTACK = (
    "attack knockoff --url http://127.0.0.1:9 --model m --pool letters --budget 1 --clone lenet "
    "--test digits --out x"
)


@pytest.mark.parametrize(("library", "line"), [("pydantic_settings", SERVE), ("httpx", ATTACK)])
def test_a_missing_library_names_the_extra_that_brings_it(library: str, line: str) -> None:
    program = BLOCKED.format(library=library, arguments=line.split())
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert f"pip install 'intaglio[{EXTRAS[library]}]'" in ended.stderr
    assert "Traceback" not in ended.stderr

"""The command as a whole: what it lists, what it says when a role's libraries are missing."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner, Result

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


def commands(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[str, click.Command]]:
    """``command`` and all that are below it, by what is typed."""
    yield " ".join(path), command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from commands(below, (*path, name))


def test_every_option_of_every_command_says_what_it_is() -> None:
    silent = [
        f"{name} {option.opts[0]}"
        for name, command in commands(main, ("intaglio",))
        for option in command.params
        if isinstance(option, click.Option) and not option.help
    ]
    assert silent == []


def test_datasets_are_looked_for_in_the_same_place_by_every_command() -> None:
    found = {
        name: (option.envvar, option.show_envvar, option.help)
        for name, command in commands(main, ("intaglio",))
        for option in command.params
        if isinstance(option, click.Option) and option.name == "data_root"
    }
    assert {"intaglio train", "intaglio leakage", "intaglio attack knockoff"} <= found.keys()
    assert set(found.values()) == {("INTAGLIO_DATA_ROOT", True, "Where datasets are looked for.")}


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
    assert ended.returncode == 2
    assert f"pip install 'intaglio[{EXTRAS[library]}]'" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("line", ["demo --out /dev/null/x", "demo --out /dev/null/x --all"])
def test_a_place_that_cannot_be_made_is_one_sentence(line: str) -> None:
    asked = CliRunner().invoke(main, line.split())
    assert asked.exit_code == 2
    assert asked.output == "Error: /dev/null/x: Not a directory\n"


def ending_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> Result:
    @click.command()
    def fails() -> None:
        raise error

    monkeypatch.setattr(f"{__name__}.FAILING", fails, raising=False)
    monkeypatch.setitem(COMMANDS, "fails", (f"{__name__}:FAILING", "Fails."))
    return CliRunner().invoke(main, ["fails"])


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            PermissionError(errno.EACCES, "Permission denied", "/a/file"),
            "/a/file: Permission denied",
        ),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "Connection refused"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_what_the_system_refuses_is_one_sentence(
    error: OSError, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = ending_with(error, monkeypatch)
    assert (ended.exit_code, ended.output) == (2, f"Error: {sentence}\n")


def test_a_reader_that_leaves_is_no_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = ending_with(BrokenPipeError(errno.EPIPE, "Broken pipe"), monkeypatch)
    assert (ended.exit_code, ended.output) == (1, "")


def test_an_interrupted_command_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = ending_with(KeyboardInterrupt(), monkeypatch)
    assert (ended.exit_code, ended.output) == (130, "Interrupted.\n")


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(ending_with(ZeroDivisionError(), monkeypatch).exception, ZeroDivisionError)

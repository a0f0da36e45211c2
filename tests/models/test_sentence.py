"""A command ends in a sentence, however it is run."""

from __future__ import annotations

import errno

import click
import pytest
from click.testing import CliRunner

from models.sentence import PlainCommand, PlainGroup


@pytest.mark.parametrize("kind", ["command", "group"])
@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (
            PermissionError(errno.EACCES, "Permission denied", "/a"),
            2,
            "Error: /a: Permission denied",
        ),
        (KeyboardInterrupt(), 130, "Interrupted."),
    ],
)
def test_refusals_and_interrupts(kind: str, error: BaseException, status: int, said: str) -> None:
    def fails() -> None:
        raise error

    if kind == "command":
        ended = CliRunner().invoke(click.command(cls=PlainCommand)(fails), [])
    else:
        group = PlainGroup(commands={"fails": click.command()(fails)})
        ended = CliRunner().invoke(group, ["fails"])
    assert (ended.exit_code, ended.output) == (status, f"{said}\n")

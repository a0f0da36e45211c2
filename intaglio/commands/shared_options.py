"""Options that several commands take, and that must mean the same in each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

__all__ = ["allow_factory", "data_root", "device", "models"]

Command = TypeVar("Command", bound=Callable[..., object])


def data_root(command: Command) -> Command:
    """``--data-root``, as ``data_root``: also from the environment."""
    option = click.option(
        "--data-root",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="INTAGLIO_DATA_ROOT",
        show_envvar=True,
        help="Where datasets are looked for.",
    )
    return option(command)


def device(command: Command) -> Command:
    """``--device``, as ``device``."""
    return click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda:N.")(
        command
    )


def allow_factory(who: str) -> Callable[[Command], Command]:
    """``--allow-factory``, as ``allow_factories``: code of the user's own that may be called.

    Args:
        who: names the code, for instance "a card".
    """
    return click.option(
        "--allow-factory",
        "allow_factories",
        multiple=True,
        metavar="FACTORY",
        help=f"Let {who} name this architecture of your own: package.module:name or file.py:name.",
    )


def models(command: Command) -> Command:
    """``--models``, as ``root``: a directory that exists."""
    option = click.option(
        "--models",
        "root",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        required=True,
        help="Directory that holds NAME/VERSION bundles.",
    )
    return option(command)

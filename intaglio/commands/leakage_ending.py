"""How ``intaglio leakage`` ends: status 1 is a gate that fails, nothing else may look like it."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console

from attack_client.errors import AttackError
from intaglio.leakage.errors import LeakageError
from models.errors import ModelsError
from models.sentence import Sentence, system_problem

__all__ = ["LeakageConsole", "ending"]


class LeakageConsole(Console):
    """Ends as a program does that SIGPIPE ends, where nobody reads any more."""

    def on_broken_pipe(self) -> None:
        """Nothing more is written.

        Raises:
            SystemExit: of status 141.
        """
        try:
            super().on_broken_pipe()
        except SystemExit:
            raise SystemExit(141) from None


@contextmanager
def ending(place: Path | str) -> Iterator[None]:
    """What a person can act on is a sentence; what nobody foresaw has a traceback and status 3.

    Args:
        place: named where the system refuses something and does not say what.
    """
    try:
        yield
    except (click.ClickException, ModuleNotFoundError):
        raise
    except (LeakageError, AttackError, ModelsError) as error:
        raise Sentence(str(error)) from error
    except OSError as error:
        raise Sentence(system_problem(error, place)) from error
    except KeyboardInterrupt:
        click.echo("Interrupted: the same command continues where this one stopped.", err=True)
        raise SystemExit(130) from None
    except Exception:
        traceback.print_exc()
        raise SystemExit(3) from None

"""What can go wrong beyond the packages that are wired here.

    models.errors.ModelsError
    └── RecipeError            a training recipe is wrong; names the key
    StaleDemo                  a directory holds what another demo left there
    ServerDidNotStart          a server that was started as a process gave up

Every message is one sentence that a person can act on. What can go wrong with a leakage matrix is
in ``intaglio.leakage.errors``.
"""

from __future__ import annotations

from models.errors import ModelsError

__all__ = ["RecipeError", "ServerDidNotStart", "StaleDemo"]


class RecipeError(ModelsError):
    """A training recipe is wrong; the message names the key."""


class StaleDemo(Exception):
    """A directory holds what another demo left there."""


class ServerDidNotStart(Exception):
    """The server gave up before it was ready; the message is the last thing it said."""

"""Whether bundles can be written where they are to be written, found out before any training."""

from __future__ import annotations

import os
from pathlib import Path

from intaglio.errors import RecipeError

__all__ = ["check_place"]


def check_place(out: Path) -> None:
    """Refuse a directory that cannot be made or written to; nothing is made here.

    Raises:
        RecipeError: ``out`` is, or lies below, a file or a directory that may not be written to.
    """
    place = out.absolute()
    while not place.exists() and place != place.parent:
        if place.is_symlink():
            raise RecipeError(f"--out {out}: {place} is a link to nothing")
        place = place.parent
    if not place.is_dir():
        relation = "is a file" if place == out.absolute() else f"lies below the file {place}"
        raise RecipeError(f"--out {out}: {relation}, bundles need a directory")
    if not os.access(place, os.W_OK | os.X_OK):
        raise RecipeError(f"--out {out}: {place} may not be written to")

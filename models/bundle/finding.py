"""Where bundles are: ``ROOT/NAME/VERSION/card.json``."""

from __future__ import annotations

import re
from pathlib import Path

from models.errors import BundleNotFound
from models.record import NAME

__all__ = ["CARD", "find_bundles", "next_version", "resolve_bundle", "version_key"]

CARD = "card.json"


def find_bundles(root: Path) -> tuple[Path, ...]:
    """Every bundle directory under ``root``: by name, then oldest version first.

    Half-written bundles have hidden names and are not seen.
    """
    if not root.is_dir():
        return ()
    found = [
        version
        for name in root.iterdir()
        if NAME.fullmatch(name.name) and name.is_dir()
        for version in name.iterdir()
        if NAME.fullmatch(version.name) and (version / CARD).is_file()
    ]
    return tuple(sorted(found, key=lambda path: (path.parent.name, version_key(path.name))))


def resolve_bundle(root: Path, name: str) -> Path:
    """The directory of ``NAME/VERSION``, or of the highest version of ``NAME``.

    Raises:
        BundleNotFound: there is none; the message lists what ``root`` holds.
    """
    wanted, _, version = name.partition("/")
    bundles = find_bundles(root)
    matching = [
        path
        for path in bundles
        if path.parent.name == wanted and (not version or path.name == version)
    ]
    if not matching:
        held = ", ".join(f"{path.parent.name}/{path.name}" for path in bundles) or "no bundle"
        raise BundleNotFound(f"there is no bundle {name!r} under {root}, which holds {held}")
    return matching[-1]


def next_version(root: Path, name: str) -> str:
    """The number after the highest one that a bundle called ``name`` has under ``root``."""
    taken = (path.name for path in find_bundles(root) if path.parent.name == name)
    return str(1 + max((int(version) for version in taken if version.isdecimal()), default=0))


def version_key(version: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts versions by their parts, as numbers where they are: ``2 < 10``, ``1.9 < 1.10``."""
    parts = re.findall(r"\d+|[^\d.]+", version)
    return tuple((1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts)

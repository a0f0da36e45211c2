"""Which version a new bundle is."""

from __future__ import annotations

from pathlib import Path

from models.bundle import find_bundles

__all__ = ["next_version", "taken_versions"]


def taken_versions(out: Path, name: str) -> frozenset[str]:
    """The versions of ``name`` that there are under ``out``."""
    return frozenset(path.name for path in find_bundles(out) if path.parent.name == name)


def next_version(out: Path, name: str) -> str:
    """One more than the highest number there is; other versions do not count."""
    taken = taken_versions(out, name)
    return str(1 + max((int(version) for version in taken if version.isdecimal()), default=0))

"""Code that is not ours, as part of a digest: a name does not tell that what it names changed.

Ours has no code here: what is built in is what the cells of earlier versions were measured with.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import (
    EntryPoint,
    PackageNotFoundError,
    distribution,
    entry_points,
    packages_distributions,
)
from pathlib import Path
from typing import Any

from attack_client.adaptive import registry as adaptations
from attack_client.attacks import registry as attacks
from defenses import registry as defenses
from models.architectures import registry as architectures
from models.architectures.factory import allowed_factory, is_factory
from models.errors import FactoryRefused

__all__ = ["code_of_add_ons", "code_of_attack", "code_of_chain", "code_of_factory", "code_of_nets"]

OURS = frozenset({"attack_client", "defenses", "intaglio", "models", "server"})

Codes = Mapping[str, str]
"""A digest of the code of everything foreign, by its name."""


def code_of_chain(chain: Iterable[Mapping[str, Any]]) -> Codes:
    """Of the links that installed packages brought."""
    kinds = (str(link.get("kind")) for link in chain)
    return _installed(defenses.GROUP, (kind for kind in kinds if kind not in defenses.BUILT_IN))


def code_of_attack(kind: str) -> Codes:
    """Of an attack that an installed package brought."""
    return _installed(attacks.GROUP, {kind} - attacks.BUILT_IN.keys())


def code_of_add_ons(kinds: Iterable[str]) -> Codes:
    """Of the add-ons that installed packages brought."""
    found = (kind for kind in kinds if kind not in adaptations.BUILT_IN)
    return _installed(adaptations.GROUP, found)


def code_of_nets(names: Iterable[str], allowed: Collection[str]) -> Codes:
    """Of architectures that installed packages brought, and of factories that are allowed."""
    found: dict[str, str] = {}
    for name in names:
        if not is_factory(name):
            foreign = {name} - architectures.BUILT_IN.keys()
            found |= _installed(architectures.GROUP, foreign)
            continue
        try:
            code = _factory(allowed_factory(name, allowed))
        except FactoryRefused:
            continue  # nothing of it is looked at: whoever builds it refuses it
        found |= {} if code is None else {name: code}
    return found


def code_of_factory(name: str) -> Codes:
    """Of ``package.module:factory`` or ``file.py:factory``; a package it lies in is imported."""
    code = _factory(name)
    return {} if code is None else {name: code}


@cache
def _factory(name: str) -> str | None:
    target = name.rpartition(":")[0]
    if target.endswith(".py"):
        return _hash([], [Path(target)])
    top = target.partition(".")[0]
    if top in OURS:
        return None
    try:
        spec = importlib.util.find_spec(target)
    except Exception:  # of whatever its package does: whoever calls the factory says so
        return None
    if spec is None or spec.origin is None:
        return None
    return _hash(sorted(_brought_by(top)), [Path(spec.origin)])


@cache
def _brought_by(top: str) -> frozenset[str]:
    """Name and version of the distributions that have the package ``top``."""
    found = set()
    for name in packages_distributions().get(top, ()):
        try:
            found.add(f"{name} {distribution(name).version}")
        except PackageNotFoundError:
            continue  # it went while we looked
    return frozenset(found)


def _installed(group: str, kinds: Iterable[str]) -> Codes:
    found = {kind: _plug_in(group, kind) for kind in kinds}
    return {f"{group}:{kind}": code for kind, code in found.items() if code is not None}


@cache
def _plug_in(group: str, kind: str) -> str | None:
    """Of the entry point ``kind``; None where there is none, which is refused by name later."""
    points = entry_points(group=group, name=kind)
    if not points:
        return None
    known = {f"{point.dist.name} {point.dist.version}" for point in points if point.dist}
    return _hash(sorted(known), [file for point in points for file in _files(point)])


def _files(point: EntryPoint) -> Iterator[Path]:
    """Where a class is written, and those of its own package that it is derived from."""
    try:
        loaded = point.load()
    except Exception:  # whoever uses it says why it cannot be imported
        return
    known = getattr(loaded, "__mro__", (loaded,))
    names = [str(getattr(one, "__module__", point.module)) for one in known]
    top = names[0].partition(".")[0]  # which may not be that of the entry point
    for name in dict.fromkeys(names):
        file = getattr(sys.modules.get(name), "__file__", None)
        if file is not None and name.partition(".")[0] == top:
            yield Path(file)


def _hash(known: Iterable[str], files: Iterable[Path]) -> str:
    digest = hashlib.sha256("\n".join(known).encode())
    for file in files:
        # A file that is not there, or is no file of its own, cannot be told from its next version.
        digest.update(file.read_bytes() if file.is_file() else b"")
    return digest.hexdigest()[:12]

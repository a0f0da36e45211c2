"""An operator's own architecture: ``package.module:factory`` or ``path/file.py:factory``.

Naming one runs code, so each is called only if the operator has listed it.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from types import ModuleType

from torch import nn

from models.errors import ArchitectureError, FactoryRefused

__all__ = ["allowed_factory", "is_factory", "load_factory"]


def is_factory(name: str) -> bool:
    """Whether ``name`` speaks of code rather than of a registered architecture."""
    return ":" in name


def allowed_factory(name: str, allowed: Collection[str]) -> str:
    """The entry of the operator's list that ``name`` speaks of; imports nothing.

    Files are the same if their resolved paths are; relative ones start at the working directory.
    Otherwise, since a bundle is moved and its author's directories are not, a file of the same
    name and factory that the operator listed is meant. What runs is always the operator's file.

    Raises:
        FactoryRefused: ``name`` is not among ``allowed``, or could be either of two files.
    """
    wanted, known = _canonical(name), {_canonical(entry): entry for entry in allowed}
    if wanted in known:
        return known[wanted]
    target, _, attribute = name.rpartition(":")
    moved = [
        entry
        for path, entry in known.items()
        if target.endswith(".py")
        and Path(path.rpartition(":")[0]).name == Path(target).name
        and path.rpartition(":")[2] == attribute
    ]
    if len(moved) > 1:
        raise FactoryRefused(
            f"the architecture {name!r} could be any of {', '.join(sorted(moved))}: list one"
        )
    if not moved:
        raise FactoryRefused(
            f"the architecture {name!r} is code that has not been allowed to run: if you trust "
            f"it, start with --allow-factory {name}"
        )
    return moved[0]


def load_factory(name: str) -> Callable[..., nn.Module]:
    """Import the callable that ``name`` speaks of.

    A file is loaded under a private module name, once per path, and ``sys.path`` is left alone,
    so that a user's package called ``models`` does not meet ours.

    Raises:
        ArchitectureError: no such module, file or callable, or the module fails to import.
    """
    target, _, attribute = name.rpartition(":")
    try:
        module = _load_file(target) if target.endswith(".py") else importlib.import_module(target)
    except Exception as error:
        raise ArchitectureError(
            f"architecture {name!r} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    factory = getattr(module, attribute, None)
    if not callable(factory):
        raise ArchitectureError(f"architecture {name!r}: {target} has no callable {attribute!r}")
    callable_: Callable[..., nn.Module] = factory
    return callable_


def _canonical(name: str) -> str:
    target, _, attribute = name.rpartition(":")
    if target.endswith(".py"):
        target = str(Path(target).resolve())
    return f"{target}:{attribute}"


def _load_file(target: str) -> ModuleType:
    path = Path(target).resolve(strict=True)
    private = f"_intaglio_factory_{hashlib.sha256(str(path).encode()).hexdigest()[:16]}"
    if private in sys.modules:
        return sys.modules[private]
    spec = importlib.util.spec_from_file_location(private, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[private] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[private]
        raise
    return module

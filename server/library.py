"""The configured directory of bundles, each opened and checked once per load."""

from __future__ import annotations

from pathlib import Path

from models.bundle import Bundle, find_bundles, open_bundle, resolve_bundle
from server.errors import ConfigurationError
from server.settings import Settings

__all__ = ["Library"]


class Library:
    """What is under ``model_dir`` while one configuration is looked up.

    Every file of a bundle is hashed when it is opened, so several models share what is open.

    Args:
        settings: say where the bundles are, and which factories they may name.

    Raises:
        ConfigurationError: there is no such directory.
    """

    def __init__(self, settings: Settings) -> None:
        if not settings.model_dir.is_dir():
            raise ConfigurationError(f"model_dir: there is no directory {settings.model_dir}")
        self.root = settings.model_dir
        self.allow_factories = tuple(sorted(settings.allow_factories))
        self._opened: dict[Path, Bundle] = {}

    def find(self, name: str | None = None) -> tuple[Path, ...]:
        """Every bundle, or every version of one: by name, then oldest version first."""
        return tuple(
            path for path in find_bundles(self.root) if name is None or path.parent.name == name
        )

    def open(self, reference: str) -> Bundle:
        """The checked bundle ``NAME/VERSION``, or the highest version of ``NAME``.

        Raises:
            ModelsError: there is none, or it does not hold what its card says.
        """
        path = resolve_bundle(self.root, reference)
        if path not in self._opened:
            self._opened[path] = open_bundle(path, allow_factories=self.allow_factories)
        return self._opened[path]

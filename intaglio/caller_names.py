"""What the owners of keys call them, for people who know callers by their names."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from models.sentence import Sentence

if TYPE_CHECKING:
    from server.settings import Settings

__all__ = ["known_names"]


def known_names(config: Path | None, assignments: Mapping[str, Any]) -> Mapping[str, str] | None:
    """Names of keys by identity (``key-ID``), out of the store that the server's settings name.

    A store that does not answer costs the names only, and a remark on standard error; so do
    variables of the environment that make no settings.

    Args:
        config: the settings as a YAML file.
        assignments: settings that come before those of the file.

    Returns:
        None where nobody said where keys are kept, or that is not known now.

    Raises:
        Sentence: the settings that were given here cannot be used.
    """
    variables = any(name.upper().startswith("INTAGLIO_CALLERS") for name in os.environ)
    if config is None and not assignments and not variables:
        return None
    from server.errors import ConfigurationError, KeyStoreError
    from server.settings import load_settings

    try:
        # An audit is not about models, and may be read where there are none.
        settings = load_settings(config, **{"model_dir": Path(), **assignments})
        if settings.callers.store == "open":
            return None
        return asyncio.run(_names(settings))
    except (ConfigurationError, KeyStoreError) as error:
        asked = config is not None or assignments
        if asked and isinstance(error, ConfigurationError):
            raise Sentence(str(error)) from error
        click.echo(f"The names of callers are not known: {error}", err=True)
        return None


async def _names(settings: Settings) -> Mapping[str, str]:
    from server.callers.assembly import open_key_store

    async with open_key_store(settings) as store:
        return {record.identity: record.name for record in await store.records()}

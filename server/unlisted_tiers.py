"""Tiers that keys name and models do not have: said once each."""

from __future__ import annotations

import logging

from server.catalogue import Entry
from server.settings_sections import PUBLIC

__all__ = ["UnlistedTiers"]

logger = logging.getLogger(__name__)

MOST_SAID = 256
"""Tiers without a model that are warned about; a key store could name any number."""


class UnlistedTiers:
    """Remembers what the operator was told."""

    def __init__(self) -> None:
        self._told: set[tuple[str, str]] = set()

    def note(self, entry: Entry, tier: str) -> None:
        """Say once that a key names a tier that a model with tiers does not have."""
        told = (entry.name, tier) in self._told or len(self._told) >= MOST_SAID
        if told or all(model.tier == PUBLIC for model in entry):
            return
        self._told.add((entry.name, tier))
        logger.warning(
            "models.%s has no tier %r: callers of it are answered as the public is",
            entry.name,
            tier,
        )

"""Where keys are kept: what a store can do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from server.callers.keys import KeyRecord

__all__ = ["Change", "KeyStore"]

Change = Callable[[KeyRecord | None], KeyRecord]
"""From the record that there is (None: none) to the one that there shall be."""


class KeyStore(Protocol):
    """Records of keys by their id; what one process changes, every other sees at its next look."""

    async def find(self, name: str) -> KeyRecord | None:
        """The record of the key whose id is ``name``.

        Raises:
            KeyStoreError: the store cannot be read.
        """
        ...

    async def records(self) -> Sequence[KeyRecord]:
        """All records, oldest first.

        Raises:
            KeyStoreError: the store cannot be read.
        """
        ...

    async def change(self, name: str, change: Change) -> KeyRecord:
        """Replace one record, atomically; what ``change`` raises is passed on.

        Returns:
            The new record.

        Raises:
            KeyStoreError: the store cannot be written.
        """
        ...

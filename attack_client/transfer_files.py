"""The three files of a transfer set, opened in the three ways there are."""

from __future__ import annotations

import os
from pathlib import Path

from attack_client.appending import open_for_appending
from attack_client.errors import TransferSetError, TransferSetExists
from attack_client.provenance import Provenance

__all__ = ["META", "RECORDS", "SENT", "TRANSFER", "begun", "open_new", "open_old", "open_to_read"]

META = "meta.json"
RECORDS = "records.bin"
SENT = "sent.log"

TRANSFER = "transfer"
"""Directory of the transfer set of an attack, below what it is told to write to."""


def begun(path: Path) -> bool:
    """Whether ``path`` holds a transfer set for which something was sent."""
    used = any(file.is_file() and file.stat().st_size > 0 for file in (path / RECORDS, path / SENT))
    return used and (path / META).is_file()


def open_new(path: Path, provenance: Provenance) -> tuple[int, int]:
    """Descriptors of the records, locked, and of the journal, where nothing was sent yet.

    Raises:
        TransferSetExists: something was.
        TransferSetLocked: another process is writing there.
        TransferSetError: the directory cannot be made, or holds answers of nobody knows what.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TransferSetError(f"cannot make {path}: {error.strerror}") from error
    descriptor, journal = open_old(path)
    try:
        if begun(path):
            raise TransferSetExists(
                f"{path} already holds a transfer set: go on with --resume, or choose another --out"
            )
        if os.fstat(descriptor).st_size:
            raise TransferSetError(
                f"{path / RECORDS} holds answers but {META} is missing: restore it, "
                "or choose another --out"
            )
        provenance.write(path / META)
    except BaseException:
        os.close(descriptor)
        os.close(journal)
        raise
    return descriptor, journal


def open_old(path: Path) -> tuple[int, int]:
    """Descriptors of the records, locked, and of the journal, to append to.

    Raises:
        TransferSetLocked: another process is writing there.
        TransferSetError: they cannot be opened.
    """
    descriptor = open_for_appending(path / RECORDS, lock=True)
    try:
        return descriptor, open_for_appending(path / SENT)
    except TransferSetError:
        os.close(descriptor)
        raise


def open_to_read(path: Path) -> int:
    """A descriptor of the records.

    Raises:
        TransferSetError: there are none.
    """
    try:
        return os.open(path / RECORDS, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise TransferSetError(f"cannot read {path / RECORDS}: {error.strerror}") from error

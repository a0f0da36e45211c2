"""Files that one process at a time appends to."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from attack_client.errors import TransferSetError, TransferSetLocked

__all__ = ["append", "open_for_appending"]


def open_for_appending(path: Path, *, lock: bool = False) -> int:
    """A descriptor of ``path``, which is made where it is missing.

    Args:
        path: of the file.
        lock: take an advisory lock, which goes with the descriptor or the process.

    Raises:
        TransferSetError: the file cannot be written.
        TransferSetLocked: another process holds the lock.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise TransferSetError(f"cannot write {path}: {error.strerror}") from error
    if lock:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if isinstance(error, BlockingIOError):
                raise TransferSetLocked(f"another process is writing {path.parent}") from error
            raise TransferSetError(f"cannot lock {path}: {error.strerror}") from error
    return descriptor


def append(descriptor: int, data: bytes) -> None:
    """Append ``data``, all of it.

    Raises:
        OSError: the disk refuses; some of ``data`` may have been written.
    """
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]

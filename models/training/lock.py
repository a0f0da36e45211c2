"""One process at a time: a lock on a directory that ends with the process that holds it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.errors import TrainingError

__all__ = ["locked"]


@contextmanager
def locked(directory: Path, refusal: str) -> Iterator[None]:
    """Hold ``directory``, which is made if it is not there.

    Raises:
        TrainingError: another process holds it; says ``refusal``.
    """
    directory.mkdir(parents=True, exist_ok=True)
    handle = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise TrainingError(refusal) from error
        yield
    finally:
        os.close(handle)

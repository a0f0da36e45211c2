"""Keys in a file: for one process, and for commands that change them while it runs."""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from models.validation import first_problem
from server.callers.key_store import Change
from server.callers.keys import KeyRecord
from server.errors import KeyStoreError

__all__ = ["KeyFile"]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid")

    schema_version: int = 1
    keys: tuple[KeyRecord, ...] = ()


class KeyFile:
    """A JSON file, read again whenever it is another one than before.

    Every change writes a new file and renames it into place, so a reader sees all of it or
    nothing, and knows by inode and time of change that there is something to read. Writers wait
    for each other at a lock beside it.

    Args:
        path: need not exist yet: no file is a store without keys.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._records: dict[str, KeyRecord] = {}

    async def find(self, name: str) -> KeyRecord | None:
        """See ``KeyStore``; costs one look at the file's state unless it has changed."""
        self._look()
        return self._records.get(name)

    async def records(self) -> Sequence[KeyRecord]:
        """See ``KeyStore``."""
        self._look()
        return sorted(self._records.values(), key=lambda record: record.created)

    async def change(self, name: str, change: Change) -> KeyRecord:
        """See ``KeyStore``."""
        try:
            with self._locked():
                self._look()
                record = change(self._records.get(name))
                self._write({**self._records, name: record})
                self._look()
        except OSError as error:
            raise KeyStoreError(f"{self._path} cannot be written: {error.strerror}") from error
        return record

    def _look(self) -> None:
        try:
            status = self._path.stat()
            seen = (status.st_ino, status.st_mtime_ns, status.st_size)
            if seen == self._seen:
                return
            if not stat.S_ISREG(status.st_mode):
                # A device or a pipe may have no end.
                raise KeyStoreError(f"{self._path} cannot be read: it is not a regular file")
            document = _Document.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            self._seen, self._records = None, {}
            return
        except OSError as error:
            raise KeyStoreError(f"{self._path} cannot be read: {error.strerror}") from error
        except ValidationError as error:
            raise KeyStoreError(
                f"{self._path} is not a file of keys: {first_problem(error)}"
            ) from None
        self._seen, self._records = seen, {record.id: record for record in document.keys}

    def _write(self, records: dict[str, KeyRecord]) -> None:
        text = _Document(keys=tuple(records.values())).model_dump_json(indent=2)
        descriptor, aside = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.rename(aside, self._path)
        except BaseException:
            os.unlink(aside)
            raise
        directory = os.open(self._path.parent, os.O_RDONLY)
        try:
            # The name too must outlive a power cut: a revoked key must not come back.
            os.fsync(directory)
        finally:
            os.close(directory)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = self._path.with_name(f".{self._path.name}.lock")
        with lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

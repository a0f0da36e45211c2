"""An append-only file that is on the disk before anybody is told so."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import queue
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from server.errors import ConfigurationError

__all__ = ["Journal", "whole_lines"]

logger = logging.getLogger(__name__)

LAST_S = 5.0
"""How long a stopping server goes on writing; what is not there by then ends as in a kill."""

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC


def whole_lines(content: bytes) -> list[bytes]:
    """The lines of ``content``, without a last one that was never finished."""
    return content.split(b"\n")[:-1]


class Journal:
    """Lines in a file, written by a thread of its own.

    Lines that come while the disk is busy share the next fsync, so durability costs one disk write
    for all requests that wait, not one each. Belongs to one event loop and, by a lock, to one
    process.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._queue: queue.SimpleQueue[_Entry | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock: int | None = None
        self._file = -1
        self._good = 0
        self._torn = False

    @property
    def waiting(self) -> int:
        """Calls that the thread has not come to: how many there are while the disk hangs."""
        return self._queue.qsize()

    def open(self) -> list[bytes]:
        """Take possession of the file.

        Returns:
            Its lines. A last one that was never finished is cut off: nobody was told that it was
            written.

        Raises:
            ConfigurationError: it cannot be used, or belongs to another process.
        """
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            beside = self._path.with_name(f".{self._path.name}.lock")
            self._lock = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self._path.exists() and not self._path.is_file():
                # A device or a pipe may have no end.
                raise ConfigurationError(f"callers.ledger: {self._path} is not a regular file")
            self._file = os.open(self._path, _FLAGS, 0o600)
            lines = whole_lines(self._path.read_bytes())
            self._good = sum(map(len, lines)) + len(lines)
            os.ftruncate(self._file, self._good)
        except BlockingIOError:
            raise ConfigurationError(
                f"callers.ledger: {self._path} belongs to a running server: give each its own, "
                "or let them share Redis (callers.store: redis)"
            ) from None
        except OSError as error:
            raise ConfigurationError(
                f"callers.ledger: {self._path} cannot be used: {error.strerror}"
            ) from error
        self._thread = threading.Thread(target=self._write, name="intaglio-journal", daemon=True)
        self._thread.start()
        return lines

    def append(self, line: bytes) -> asyncio.Future[None]:
        """Have ``line`` written, after everything that was given before.

        Returns:
            Done when it is on the disk; raises ``OSError`` if it is not, and will not be.
        """
        return self._put((line,), anew=False)

    def replace(self, lines: Iterable[bytes]) -> asyncio.Future[None]:
        """Have all that was given before replaced by ``lines``, as a whole or not at all.

        ``lines`` are made in the thread that writes them, so out of nothing that still changes.
        """
        return self._put(lines, anew=True)

    def close(self) -> None:
        """Write what was given, for ``LAST_S`` at most, and let go of the file."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(LAST_S)
            if self._thread.is_alive():
                # It hangs in the file, which therefore ends with the process.
                logger.error("callers.ledger: %s hangs, its last lines are not written", self._path)
                return
        for descriptor in (self._file, self._lock):
            if descriptor is not None and descriptor >= 0:
                os.close(descriptor)
        self._file, self._lock = -1, None

    def _put(self, lines: Iterable[bytes], *, anew: bool) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        done.add_done_callback(_seen)
        self._queue.put(_Entry(lines, anew, loop, done))
        return done

    # -- in the thread -------------------------------------------------------------------------

    def _write(self) -> None:
        while (entry := self._queue.get()) is not None:
            batch: list[_Entry | None] = [entry]
            while not entry.anew and not self._queue.empty():
                # This thread alone takes: what is there stays there until it is taken.
                batch.append(self._queue.get())
                last = batch[-1]
                if last is None or last.anew:
                    break
            last = batch[-1]
            together = [one for one in batch if one is not None and not one.anew]
            if together:
                self._finish(together, self._append)
            if last is not None and last.anew:
                self._finish([last], self._replace)
            if last is None:
                return

    def _finish(self, entries: list[_Entry], write: Callable[[bytes], None]) -> None:
        text = b"".join(line + b"\n" for entry in entries for line in entry.lines)
        error: OSError | None = None
        try:
            write(text)
        except OSError as failed:
            error = failed
        for entry in entries:
            entry.finish(error)

    def _append(self, text: bytes) -> None:
        if self._torn:
            # Half a line must not be continued by the next.
            os.ftruncate(self._file, self._good)
        self._torn = True
        _write_all(self._file, text)
        os.fdatasync(self._file)
        self._good += len(text)
        self._torn = False

    def _replace(self, text: bytes) -> None:
        aside = self._path.with_name(f".{self._path.name}.new")
        fresh = os.open(aside, _FLAGS | os.O_TRUNC, 0o600)
        try:
            _write_all(fresh, text)
            os.fsync(fresh)
            os.rename(aside, self._path)
        except OSError:
            os.close(fresh)
            raise
        os.close(self._file)
        self._file, self._good, self._torn = fresh, len(text), False
        directory = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


class _Entry:
    def __init__(
        self,
        lines: Iterable[bytes],
        anew: bool,
        loop: asyncio.AbstractEventLoop,
        done: asyncio.Future[None],
    ) -> None:
        self.lines = lines
        self.anew = anew
        self._loop = loop
        self._done = done

    def finish(self, error: OSError | None) -> None:
        def tell() -> None:
            if self._done.done():
                return
            if error is None:
                self._done.set_result(None)
            else:
                self._done.set_exception(error)

        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(tell)


def _write_all(file: int, text: bytes) -> None:
    view = memoryview(text)
    while view:
        view = view[os.write(file, view) :]


def _seen(done: asyncio.Future[None]) -> None:
    """Not everybody waits; what nobody waited for is no reason to complain."""
    if not done.cancelled():
        done.exception()

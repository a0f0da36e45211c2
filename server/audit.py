"""The audit: a line for every query, before its answer leaves; never an image, never a key.

A record holds who asked (the id of its key), what of which model, how many samples, a keyed hash of
each image, what came of it, and what it cost. The hashes tell the same image asked again, also of
another model or by another caller, and nothing to anybody without the server's secret. Records are
for the operator alone: they hold how sure the victim was, which no answer behind a defense tells.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.backlog import Backlog
from server.callers.metrics import CallerMetrics
from server.errors import ConfigurationError
from server.evidence import Evidence
from server.settings_callers import AuditSettings

__all__ = ["AuditEntry", "AuditLog"]

logger = logging.getLogger(__name__)

LONGEST_NAME = 64
"""Characters that are kept of a model's name: a name that is served has no more, and what a
stranger calls a model costs no more than a short line."""

MOST = 2048
"""Records that wait for the disk, at most; those that come beyond that are missed."""

MOST_BYTES = 256 * 2**20
"""What their images may take."""

LAST_S = 5.0
"""How long a stopping server goes on writing."""

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC


@dataclass(slots=True)
class AuditEntry:
    """What is known of one query, filled in on its way.

    Attributes:
        request: its id, as in the log and in the answer's header.
        key: id of the caller's key.
        model: as asked for, no longer than ``LONGEST_NAME``.
        version: that answers; None if it never came to that.
        weights: that answer, as evidence knows them; never written.
        samples: images; 0 if it never came to that.
        explain: whether maps were asked for.
        images: ``(n, C, H, W)`` uint8; hashed, never written.
        charged: samples by which the caller's account has changed.
        replayed: whether it was charged before, under the same idempotency key.
        status: HTTP status.
        decision: ``answered``, or the reason why not.
    """

    request: str
    key: str
    model: str
    version: str | None = None
    weights: str = ""
    samples: int = 0
    explain: bool = False
    images: NDArray[np.uint8] | None = None
    charged: int = 0
    replayed: bool = False
    status: int = 500
    decision: str = "failed"
    began: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        self.model = self.model[:LONGEST_NAME]


class AuditLog:
    """Appends JSON lines to files in a directory, from a thread of its own.

    A line is with the kernel before the answer it is about leaves: it survives a kill of the
    process, not a power cut. A disk that cannot be written, or that hangs until ``MOST`` records
    wait for it, does not stop the service: the records are missed, counted and logged.

    Nothing is begun, and nothing old removed, before there is a first record: starts that fail, one
    after the other, cost no record of before.

    Args:
        settings: with a directory, which is made.
        evidence: what the victims said.
        metrics: told of records that could not be written.

    Raises:
        ConfigurationError: the directory cannot be used.
    """

    def __init__(self, settings: AuditSettings, evidence: Evidence, metrics: CallerMetrics) -> None:
        assert settings.directory is not None
        self._directory = settings.directory
        self._max_bytes = settings.max_bytes
        self._files = settings.files
        self.evidence = evidence
        self._metrics = metrics
        self._file = -1
        self._path = self._directory  # until there is a file
        self._size = 0
        self._failing = False
        self._full = False
        self._instance = f"{socket.gethostname()}-{os.getpid()}-{threading.get_native_id()}"
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._directory):  # which has no name, or loses it
                pass
        except OSError as error:
            raise ConfigurationError(
                f"audit.directory: {self._directory} cannot be written: {error.strerror}"
            ) from error
        self._backlog = Backlog("intaglio-audit", most=MOST, most_bytes=MOST_BYTES)

    def record(self, entry: AuditEntry) -> Future[None]:
        """Write one query down; done when that was tried, or will not be."""
        size = 0 if entry.images is None else entry.images.nbytes
        return self._later(partial(self._record, entry), size)

    def tested(
        self,
        caller: str,
        model: str,
        version: str,
        *,
        statistic: float,
        distances: int,
        natural: bool,
    ) -> None:
        """Write down what the monitor found of a caller: PRADA's test of its distances."""
        line = {
            "event": "test",
            "time": _moment(time.time()),
            "key": caller,
            "model": model,
            "version": version,
            "w": round(statistic, 4),
            "distances": distances,
            "natural": natural,
        }
        self._later(partial(self._write, line))

    def close(self) -> None:
        """Write what is there, for ``LAST_S`` at most, and close the file."""
        left = self._backlog.close(LAST_S)
        if left:
            # The thread may still hang in the file, which ends with the process.
            self._metrics.failed("audit", left)
            logger.error("audit: %d records end here without being written", left)
        elif self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _later(self, work: Callable[[], None], size: int = 0) -> Future[None]:
        done = self._backlog.put(work, size)
        if done is None:
            self._metrics.failed("audit")
            if not self._full:
                logger.error("audit: too many records wait for %s: others are missed", self._path)
            self._full = True
            done = Future()
            done.set_result(None)
        else:
            self._full = False
        return done

    # -- in the thread -------------------------------------------------------------------------

    def _record(self, entry: AuditEntry) -> None:
        hashes: Sequence[str] = ()
        confidences: Sequence[float | None] = ()
        if entry.images is not None:
            hashes = self.evidence.names(entry.images)
            confidences = self.evidence.of(entry.weights, hashes)
        self._write(
            {
                "event": "query",
                "time": _moment(entry.began),
                "request": entry.request,
                "key": entry.key,
                "model": entry.model,
                "version": entry.version,
                "samples": entry.samples,
                "explain": entry.explain,
                "status": entry.status,
                "decision": entry.decision,
                "charged": entry.charged,
                "replayed": entry.replayed,
                "images": list(hashes),
                "confidence": list(confidences),
            }
        )

    def _write(self, line: dict[str, Any]) -> None:
        text = json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
        try:
            if self._size + len(text) > self._max_bytes or not self._still_there():
                self._open()
            # One call: what other processes write into the directory goes elsewhere, and a kill
            # leaves a whole line or none.
            written = os.write(self._file, text)
            if written < len(text):
                # Half a line would spoil the next one, too.
                os.ftruncate(self._file, self._size)
                raise OSError(28, "No space left on device")
            self._size += len(text)
        except OSError as error:
            self._metrics.failed("audit")
            if not self._failing:
                logger.error("audit: %s cannot be written: %s", self._path, error.strerror)
            self._failing = True
            return
        if self._failing:
            logger.warning("audit: %s is written again", self._path)
        self._failing = False

    def _still_there(self) -> bool:
        """Whether the file has kept its name: it may have been taken away, or removed as old."""
        try:
            return os.fstat(self._file).st_ino == self._path.stat().st_ino
        except OSError:
            return False

    def _open(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
        self._path = self._directory / f"audit-{moment}-{self._instance}.jsonl"
        self._file = os.open(self._path, _FLAGS, 0o600)
        self._size = 0
        self._prune()

    def _prune(self) -> None:
        kept = sorted(self._directory.glob("audit-*.jsonl"), key=_age)
        for old in kept[: max(0, len(kept) - self._files)]:
            if old != self._path:
                old.unlink(missing_ok=True)


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # another process removed it
        return 0.0


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")

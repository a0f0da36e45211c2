"""The files of a bundle put in place: written under a hidden name, then renamed once."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from models.errors import BundleError

__all__ = ["publish"]


def publish(root: Path, name: str, version: str, files: Mapping[str, bytes]) -> Path:
    """Put ``files`` into ``root/NAME/VERSION``; readers see all of them or nothing.

    Raises:
        BundleError: this version exists.
    """
    target = root / name / version
    if target.exists():
        raise BundleError(f"{target} exists: a bundle is never overwritten, choose another version")
    target.parent.mkdir(parents=True, exist_ok=True)
    hidden = Path(tempfile.mkdtemp(prefix=f".{name}-{version}-", dir=root))
    try:
        for file, data in files.items():
            _write_durably(hidden / file, data)
        hidden.chmod(0o755)
        _rename(hidden, target)
    except BaseException:
        shutil.rmtree(hidden, ignore_errors=True)
        raise
    return target


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("xb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _rename(hidden: Path, target: Path) -> None:
    try:
        hidden.rename(target)
    except OSError as error:
        if target.exists():
            raise BundleError(
                f"{target} exists: a bundle is never overwritten, choose another version"
            ) from error
        raise
    for directory in (target.parent, target.parent.parent):
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

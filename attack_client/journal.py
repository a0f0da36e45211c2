"""What was sent: one line ``start count`` per request, written before it leaves."""

from __future__ import annotations

from pathlib import Path

from attack_client.appending import append
from attack_client.errors import TransferSetError

__all__ = ["Journal"]


class Journal:
    """The requests of a theft, in memory and in ``sent.log``.

    It is not forced to disk: a kill loses nothing of it, a power cut its last lines, and then the
    report states too few resent samples, never a wrong answer.

    Args:
        path: of the file; a missing one is an empty one.

    Raises:
        TransferSetError: a whole line is not ``start count``. What follows the last line end was
            cut off by a kill and is ignored.
    """

    def __init__(self, path: Path) -> None:
        data = path.read_bytes() if path.exists() else b""
        self.size = data.rfind(b"\n") + 1
        """Bytes of whole lines."""
        self._requests = [_request(line, path) for line in data[: self.size].splitlines()]

    def add(self, descriptor: int, start: int, count: int) -> None:
        """Write that positions ``start .. start + count`` are about to be sent."""
        append(descriptor, f"{start} {count}\n".encode())
        self._requests.append((start, count))

    def samples(self, end: int) -> int:
        """Samples sent at positions below ``end``, each as often as it was sent."""
        return sum(max(0, min(start + count, end) - start) for start, count in self._requests)


def _request(line: bytes, path: Path) -> tuple[int, int]:
    try:
        start, count = line.split()
        return int(start), int(count)
    except ValueError as error:
        raise TransferSetError(f"{path} has a line that is not 'start count'") from error

"""The most memory that this process has held."""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path

__all__ = ["most_resident"]

STATUS = Path("/proc/self/status")


def most_resident() -> int:
    """Bytes that were resident at most since the program of this process began.

    Not what ``getrusage`` says where there is better: on Linux that also counts what the process
    held before it became this program, a copy of the one that started it.
    """
    if STATUS.is_file():
        found = re.search(r"^VmHWM:\s+(\d+) kB$", STATUS.read_text(encoding="ascii"), re.MULTILINE)
        if found is not None:
            return 1024 * int(found[1])
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most

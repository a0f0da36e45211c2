"""The most memory that a process held: its own, not that of the one that started it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.peak_memory import STATUS, most_resident

MIB = 2**20
CODE = "from benchmarks.peak_memory import most_resident; print(most_resident())"


@pytest.mark.skipif(not STATUS.is_file(), reason="another system than Linux")
def test_it_counts_what_is_held_and_is_not_handed_down() -> None:
    held = bytearray(300 * MIB)
    held[::4096] = b"x" * len(held[::4096])
    assert most_resident() > 290 * MIB
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", CODE], cwd=root, capture_output=True, check=True)
    assert 0 < int(done.stdout) < 100 * MIB < len(held)

"""Memory between steps: on Linux's usual C library, what is freed is not given back meanwhile."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest
import torch

from models.training.kept_memory import kept_memory

CPU = torch.device("cpu")
ADJUSTABLE = sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt")
adjustable = pytest.mark.skipif(not ADJUSTABLE, reason="another C library")

# A process of its own: what an allocator does depends on all that went before.
PROGRAM = """
import resource
import torch
from models.training.kept_memory import kept_memory

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    held = [torch.zeros(2 * 2**20) for _ in range(24)]
    del held
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

torch.set_num_threads(1)
with kept_memory(torch.device("cpu")):
    print(*(pages() for _ in range(9)))
"""


@adjustable
def test_what_a_step_frees_is_there_for_the_next() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True)
    first, *_, last = map(int, done.stdout.split())
    assert first >= 90, "192 MiB, got page by page: of 2 MiB at most"
    assert last < 30


class Library:
    """A C library that notes what is asked of it."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def mallopt(self, parameter: int, value: int) -> int:
        self.asked.append((parameter, value))
        return 1


@adjustable
def test_afterwards_memory_is_given_back_again(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    with kept_memory(CPU):
        assert library.asked[-1] == (-1, -1), "no trimming"
    assert library.asked[-1] == (-1, 64 * 2**20)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_elsewhere_nothing_is_changed(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    library = Library()
    other = object() if device == "cpu" else library  # a C library without mallopt
    monkeypatch.setattr(ctypes, "CDLL", lambda name: other)
    with kept_memory(torch.device(device)):
        pass
    assert library.asked == []

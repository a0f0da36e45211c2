"""Memory between steps: on Linux's usual C library, what is freed is not given back meanwhile."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest
import torch

from models.training.kept_memory import kept_memory

ADJUSTABLE = sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt")

# A process of its own: what an allocator does depends on all that went before.
PROGRAM = """
import resource
import torch
from models.training.kept_memory import kept_memory

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    held = [torch.zeros(2 * 2**20) for _ in range(8)]
    del held
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

torch.set_num_threads(1)
given_back = [pages() for _ in range(4)][-1]
with kept_memory(torch.device("cpu")):
    kept = [pages() for _ in range(4)][-1]
again = [pages() for _ in range(4)][-1]
print(given_back, kept, again)
"""


@pytest.mark.skipif(not ADJUSTABLE, reason="another C library")
def test_what_a_step_frees_is_there_for_the_next() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True)
    given_back, kept, again = map(int, done.stdout.split())
    assert kept < 100
    assert given_back > 10 * max(kept, 1)
    assert again > 10 * max(kept, 1), "the process goes on as it did before"


def test_elsewhere_than_on_a_cpu_nothing_is_changed() -> None:
    with kept_memory(torch.device("meta")):
        pass

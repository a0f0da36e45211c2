"""Memory that a training step frees is kept for the next step.

A step allocates and frees the same activations again and again. The C library hands what lies at
the top of its heap back to the system as soon as it is free, and gets it again page by page, each
filled with zeros: a tenth of the time of a small network's step at a batch of 256.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["kept_memory"]

# From <malloc.h> of the GNU C library.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_MMAP_THRESHOLD = 32 * 2**20
"""Where the library's own growing threshold ends: what is larger goes back to the system anyway."""
NEVER = -1


@contextmanager
def kept_memory(device: torch.device) -> Iterator[None]:
    """Inside, the process keeps the memory that is freed; afterwards it gives it back as before.

    Does nothing where training is not on the CPU, or the C library is another than GNU's.

    Args:
        device: where training takes place.
    """
    here = device.type == "cpu" and sys.platform == "linux"
    adjust = getattr(ctypes.CDLL(None), "mallopt", None) if here else None
    if adjust is None:
        yield
        return
    adjust(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
    adjust(M_TRIM_THRESHOLD, NEVER)
    try:
        yield
    finally:
        # Twice the other threshold, as the library has it in a process that allocates so much.
        adjust(M_TRIM_THRESHOLD, 2 * LARGEST_MMAP_THRESHOLD)
